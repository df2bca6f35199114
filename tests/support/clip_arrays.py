"""State dicts of small CLIPs, by the names and shapes that OpenAI, open_clip and Hugging Face publish."""

import numpy as np
import random_weights

EMBED, VOCAB, LENGTH = 20, 600, 9
OPEN_CLIP = {
  "quick_gelu": False,
  "vision_cfg": {"layers": 2, "width": 48, "head_width": 16, "patch_size": 8, "image_size": 24},
  "text_cfg": {"layers": 2, "width": 32, "heads": 2, "vocab_size": VOCAB, "context_length": LENGTH},
}
HUGGING_FACE = {
  "vision_config": {"hidden_act": "gelu", "num_attention_heads": 3, "image_size": 24, "num_hidden_layers": 2},
  "text_config": {
    "hidden_act": "gelu",
    "num_attention_heads": 2,
    "eos_token_id": VOCAB - 1,
    "num_hidden_layers": 2,
  },
}


def openai_block(prefix, width):
  return {
    f"{prefix}ln_1.weight": (width,),
    f"{prefix}ln_1.bias": (width,),
    f"{prefix}attn.in_proj_weight": (3 * width, width),
    f"{prefix}attn.in_proj_bias": (3 * width,),
    f"{prefix}attn.out_proj.weight": (width, width),
    f"{prefix}attn.out_proj.bias": (width,),
    f"{prefix}ln_2.weight": (width,),
    f"{prefix}ln_2.bias": (width,),
    f"{prefix}mlp.c_fc.weight": (4 * width, width),
    f"{prefix}mlp.c_fc.bias": (4 * width,),
    f"{prefix}mlp.c_proj.weight": (width, 4 * width),
    f"{prefix}mlp.c_proj.bias": (width,),
  }


def openai_text(width=32, layers=2, prefix="", vocab=VOCAB, length=LENGTH):
  shapes = {
    f"{prefix}positional_embedding": (length, width),
    f"{prefix}text_projection": (width, EMBED),
    f"{prefix}token_embedding.weight": (vocab, width),
    f"{prefix}ln_final.weight": (width,),
    f"{prefix}ln_final.bias": (width,),
  }
  for i in range(layers):
    shapes |= openai_block(f"{prefix}transformer.resblocks.{i}.", width)
  return shapes


def openai_vit(width=48, layers=2, patch=8, side=3):
  shapes = {
    "visual.class_embedding": (width,),
    "visual.positional_embedding": (side**2 + 1, width),
    "visual.proj": (width, EMBED),
    "visual.conv1.weight": (width, 3, patch, patch),
    **{f"visual.ln_{norm}.{leaf}": (width,) for norm in ("pre", "post") for leaf in ("weight", "bias")},
  }
  for i in range(layers):
    shapes |= openai_block(f"visual.transformer.resblocks.{i}.", width)
  return shapes


def openai_resnet(width=8, blocks=(1, 1, 1, 1), side=2):
  shapes = {}

  def conv_and_norm(conv, norm, after, before, kernel):
    shapes[f"{conv}.weight"] = (after, before, kernel, kernel)
    for leaf in ("weight", "bias", "running_mean", "running_var"):
      shapes[f"{norm}.{leaf}"] = (after,)

  for i, (after, before) in enumerate([(width // 2, 3), (width // 2, width // 2), (width, width // 2)], start=1):
    conv_and_norm(f"visual.conv{i}", f"visual.bn{i}", after, before, 3)
  before = width
  for stage, count in enumerate(blocks, start=1):
    narrow = width * 2 ** (stage - 1)
    for j in range(count):
      name = f"visual.layer{stage}.{j}"
      for i, sizes in enumerate([(narrow, before, 1), (narrow, narrow, 3), (4 * narrow, narrow, 1)], start=1):
        conv_and_norm(f"{name}.conv{i}", f"{name}.bn{i}", *sizes)
      if not j:
        conv_and_norm(f"{name}.downsample.0", f"{name}.downsample.1", 4 * narrow, before, 1)
      before = 4 * narrow
  wide = 32 * width
  shapes["visual.attnpool.positional_embedding"] = (side**2 + 1, wide)
  for name, after in (("k_proj", wide), ("q_proj", wide), ("v_proj", wide), ("c_proj", EMBED)):
    shapes |= {f"visual.attnpool.{name}.weight": (after, wide), f"visual.attnpool.{name}.bias": (after,)}
  return shapes


def hugging_face(vocab=VOCAB):
  shapes = {"visual_projection.weight": (EMBED, 48), "text_projection.weight": (EMBED, 32)}
  shapes["vision_model.embeddings.class_embedding"] = (48,)
  shapes["vision_model.embeddings.patch_embedding.weight"] = (48, 3, 8, 8)
  shapes["vision_model.embeddings.position_embedding.weight"] = (10, 48)
  shapes["text_model.embeddings.token_embedding.weight"] = (vocab, 32)
  shapes["text_model.embeddings.position_embedding.weight"] = (LENGTH, 32)
  for norm, width in (("vision_model.pre_layrnorm", 48), ("vision_model.post_layernorm", 48)):
    shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
  shapes |= {"text_model.final_layer_norm.weight": (32,), "text_model.final_layer_norm.bias": (32,)}
  for tower, width in (("vision_model", 48), ("text_model", 32)):
    for i in range(2):
      block = f"{tower}.encoder.layers.{i}"
      for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"):
        shapes |= {f"{block}.{name}.weight": (width, width), f"{block}.{name}.bias": (width,)}
      for name, after, before in (("mlp.fc1", 4 * width, width), ("mlp.fc2", width, 4 * width)):
        shapes |= {f"{block}.{name}.weight": (after, before), f"{block}.{name}.bias": (after,)}
      for name in ("layer_norm1", "layer_norm2"):
        shapes |= {f"{block}.{name}.weight": (width,), f"{block}.{name}.bias": (width,)}
  return shapes


def drawn(shapes, seed=0):
  """Random arrays, with the scalar that all files have."""
  arrays = random_weights.draw(shapes, seed, scales={"embedding": 1.0})
  return {**arrays, "logit_scale": np.array(2.5, "float32")}


def scalars(image, length=LENGTH, vocab=VOCAB):
  """What only OpenAI's own archives hold beside the weights."""
  numbers = {"input_resolution": image, "context_length": length, "vocab_size": vocab}
  return {name: np.array(number) for name, number in numbers.items()}
