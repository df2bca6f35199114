"""What the three kinds of files call a CLIP's arrays."""

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
  """Of one transformer block, after its number; qkv: one array of all three, or one of each in this order."""

  norm_1: str
  qkv: tuple[str, ...]
  out: str
  norm_2: str
  mlp_in: str
  mlp_out: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Names:
  """Of a whole network. Heads of our shape [width, shared space] are the other way round where heads_turned is set."""

  block: Block
  vision_blocks: str
  class_token: str
  vision_position: str
  patch: str
  norm_in: str
  norm_out: str
  vision_head: str
  text_blocks: str
  token: str
  text_position: str
  text_norm: str
  text_head: str
  heads_turned: bool


OPENAI = Names(
  block=Block(
    norm_1="ln_1",
    qkv=("attn.in_proj_",),
    out="attn.out_proj",
    norm_2="ln_2",
    mlp_in="mlp.c_fc",
    mlp_out="mlp.c_proj",
  ),
  vision_blocks="visual.transformer.resblocks.",
  class_token="visual.class_embedding",
  vision_position="visual.positional_embedding",
  patch="visual.conv1.weight",
  norm_in="visual.ln_pre",
  norm_out="visual.ln_post",
  vision_head="visual.proj",
  text_blocks="transformer.resblocks.",
  token="token_embedding.weight",
  text_position="positional_embedding",
  text_norm="ln_final",
  text_head="text_projection",
  heads_turned=False,
)

# open_clip's models with a text tower of its own.
OPEN_CLIP = dataclasses.replace(
  OPENAI,
  text_blocks="text.transformer.resblocks.",
  token="text.token_embedding.weight",
  text_position="text.positional_embedding",
  text_norm="text.ln_final",
  text_head="text.text_projection",
)

HUGGING_FACE = Names(
  block=Block(
    norm_1="layer_norm1",
    qkv=("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."),
    out="self_attn.out_proj",
    norm_2="layer_norm2",
    mlp_in="mlp.fc1",
    mlp_out="mlp.fc2",
  ),
  vision_blocks="vision_model.encoder.layers.",
  class_token="vision_model.embeddings.class_embedding",
  vision_position="vision_model.embeddings.position_embedding.weight",
  patch="vision_model.embeddings.patch_embedding.weight",
  norm_in="vision_model.pre_layrnorm",
  norm_out="vision_model.post_layernorm",
  vision_head="visual_projection.weight",
  text_blocks="text_model.encoder.layers.",
  token="text_model.embeddings.token_embedding.weight",
  text_position="text_model.embeddings.position_embedding.weight",
  text_norm="text_model.final_layer_norm",
  text_head="text_projection.weight",
  heads_turned=True,
)


def of(names: Collection[str]) -> Names | None:
  """Whose names these are, by the first array of either tower; None for no CLIP's."""
  for known in (HUGGING_FACE, OPEN_CLIP, OPENAI):
    if {known.patch, known.token} <= set(names):
      return known
  return None
