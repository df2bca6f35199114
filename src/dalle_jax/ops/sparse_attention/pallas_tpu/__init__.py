"""Attention under a pattern as one kernel on TPU, forward and backward.

Heads lie side by side in the 128 lanes, as the projections leave them, so nothing is transposed on the way in or out.
The queries of a group's heads are stacked, each with the other heads' lanes zeroed: one product with the keys then
serves all of them, and in the backward pass the same stacking puts each head's dk and dv into its own lanes. Tiles of
queries are unrolled with literal slices of keys (`tiles`), all keys of a tile are scored at once, and a softmax needs
one maximum and one sum. Short streams lie in fast memory whole (`whole`), long ones pass through it (`steps`).
"""

from dalle_jax.ops.sparse_attention.pallas_tpu.attend import attend, unserved

__all__ = ["attend", "unserved"]
