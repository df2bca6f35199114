"""Published text-to-image transformers of other projects, each with its own blocks, positions and alignment.

They are here so that their weights can be read and drawn from, not to be trained. Both net classes offer the same:

    net(text_BT, codes_BN)                             all logits, teacher-forced
    net.init_caches(batch)                             keys and values of no position
    net.step(text_BT, codes_BN, caches, position)      the image logits of one position, by caches

Alignment: the stream has T text and N image positions, T + N in all, on which the pattern of attention is defined. The
first `cfg.carried` positions carry text, position carried + j carries z_j with the place of z_j, and the logits of
position carried + j - 1 draw z_j. In this project's own stream position T + j carries z_(j-1) with the place of z_j.
"""
