"""Arrays as the files of ruDALL-E and minDALL-E name them, small and random."""

import random_weights

TEXT, GRID, LAYERS, WIDTH, HEADS = 4, 6, 3, 12, 2
TEXT_VOCAB, IMAGE_VOCAB = 20, 14
SCALES = {r"embeddings?\.weight|(tok|pos)_emb": 0.5}


def rudalle():
  """Without masks."""
  d, classes = WIDTH, TEXT_VOCAB + TEXT
  shapes = {
    "text_embeddings.weight": (classes, d),
    "image_embeddings.weight": (IMAGE_VOCAB, d),
    "text_pos_embeddings.weight": (TEXT + 1, d),
    "image_row_embeddings.weight": (GRID, d),
    "image_col_embeddings.weight": (GRID, d),
    **norm("to_logits.0"),
    **linear("to_logits.1", classes + IMAGE_VOCAB, d),
    **norm("transformer.final_layernorm"),
  }
  norms = ("input", "before_first_addition", "before_second_addition", "post_attention")
  for layer in (f"transformer.layers.{i}" for i in range(LAYERS)):
    for which in norms:
      shapes |= norm(f"{layer}.{which}_layernorm")
    shapes |= linear(f"{layer}.attention.query_key_value", 3 * d, d) | linear(f"{layer}.attention.dense", d, d)
    shapes |= linear(f"{layer}.mlp.dense_h_to_4h", 4 * d, d) | linear(f"{layer}.mlp.dense_4h_to_h", d, 4 * d)
  return random_weights.draw(shapes, scales=SCALES)


def mindalle():
  """As a file of the transformer alone."""
  d = WIDTH
  shapes = {
    "tok_emb_img.weight": (IMAGE_VOCAB, d),
    "tok_emb_txt.weight": (TEXT_VOCAB, d),
    "pos_emb_img.weight": (GRID**2, d),
    "pos_emb_txt.weight": (TEXT, d),
    **norm("ln_f"),
    "head_img.weight": (IMAGE_VOCAB, d),
    "head_txt.weight": (TEXT_VOCAB, d),
  }
  for block in (f"blocks.{i}" for i in range(LAYERS)):
    shapes |= norm(f"{block}.ln1") | norm(f"{block}.ln2")
    for part in ("key", "query", "value", "proj"):
      shapes |= linear(f"{block}.attn.{part}", d, d)
    shapes |= linear(f"{block}.mlp.0", 4 * d, d) | linear(f"{block}.mlp.2", d, 4 * d)
  return random_weights.draw(shapes, scales=SCALES)


def linear(path, outputs, inputs):
  return {f"{path}.weight": (outputs, inputs), f"{path}.bias": (outputs,)}


def norm(path):
  return {f"{path}.weight": (WIDTH,), f"{path}.bias": (WIDTH,)}
