import clip_arrays
import numpy as np
import pytest

from dalle_jax import config
from dalle_jax.convert import clip, clip_description
from dalle_jax.errors import UserError
from dalle_jax.models import openai_clip
from dalle_jax.models.clip import CHANNEL_MEAN

OPENAI = {**clip_arrays.openai_vit(width=64), **clip_arrays.openai_text(width=64)}
FILES = {
  "OpenAI": (OPENAI, None),
  "open_clip": ({**clip_arrays.openai_vit(), **clip_arrays.openai_text()}, clip_arrays.OPEN_CLIP),
  "own text tower": ({**clip_arrays.openai_vit(), **clip_arrays.openai_text(prefix="text.")}, clip_arrays.OPEN_CLIP),
  "Hugging Face": (clip_arrays.hugging_face(), clip_arrays.HUGGING_FACE),
  "ResNet": (
    {**clip_arrays.openai_resnet(), **clip_arrays.openai_text()},
    {**clip_arrays.OPEN_CLIP, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}},
  ),
}


def file(name, seed=0):
  shapes, description = FILES[name]
  arrays = clip_arrays.drawn(shapes, seed)
  return ({**arrays, **clip_arrays.scalars(24)} if name == "OpenAI" else arrays), description


@pytest.mark.parametrize("name", FILES)
def test_every_array_is_read_once_and_in_float32(name):
  arrays, description = file(name)
  assert clip.recognises(arrays)
  cfg, params = clip.read(arrays, description)
  leaves = [np.asarray(leaf) for leaf in flat(params).values()]
  weights = [array for key, array in arrays.items() if key not in clip_arrays.scalars(24)]
  assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
  assert sum(leaf.size for leaf in leaves) == sum(array.size for array in weights)
  np.testing.assert_allclose(sum(leaf.sum() for leaf in leaves), sum(array.sum() for array in weights), rtol=1e-4)
  assert config.from_dict(openai_clip.Config, config.to_dict(cfg)) == cfg


def test_sizes_are_those_of_the_arrays():
  cfg, _ = clip.read(*file("OpenAI"))
  stack = openai_clip.Stack(layers=2, width=64, heads=1, mlp=256, quick_gelu=True)
  assert cfg.vision == openai_clip.VisionTransformer(image=24, patch=8, stack=stack)
  assert cfg.text == openai_clip.Text(vocab=600, length=9, stack=stack)
  assert (cfg.embed, cfg.mean) == (20, CHANNEL_MEAN)
  resnet, _ = clip.read(*file("ResNet"))
  assert resnet.vision == openai_clip.ResNet(image=64, width=8, blocks=(1, 1, 1, 1), heads=4)
  face, _ = clip.read(*file("Hugging Face"))
  assert (face.vision.stack.heads, face.text.stack.heads, face.text.end) == (3, 2, 599)
  assert not face.text.stack.quick_gelu


def test_the_three_kinds_of_names_are_the_same_network():
  # open_clip's arrays, by Hugging Face's names.
  arrays, description = file("open_clip")
  _, wanted = clip.read(arrays, description)
  told = clip_arrays.HUGGING_FACE
  _, found = clip.read(by_hugging_face_s_names(arrays), told)
  for path, leaf in flat(wanted).items():
    np.testing.assert_array_equal(flat(found)[path], leaf, err_msg=path)
  module, _ = clip.read({f"module.{name}": array for name, array in arrays.items()}, description)
  assert module == clip.read(arrays, description)[0]


def test_half_precision_and_old_files_buffers_are_read():
  arrays, description = file("Hugging Face")
  half = {name: array.astype(np.float16) for name, array in arrays.items()}
  half["text_model.embeddings.position_ids"] = np.arange(9)[None]
  _, params = clip.read(half, description)
  assert flat(params)["text.token"].dtype == np.float32
  arrays, description = file("ResNet")
  arrays["visual.bn1.num_batches_tracked"] = np.array(5)
  clip.read(arrays, description)


@pytest.mark.parametrize("name", FILES)
def test_an_array_that_is_missing_misshapen_or_not_finite_is_named(name):
  arrays, description = file(name)
  for key in arrays:
    if key in clip_arrays.scalars(24):
      continue
    rest = {other: array for other, array in arrays.items() if other != key}
    with pytest.raises(UserError) as refused:
      clip.read(rest, description)
    message = str(refused.value)
    assert key in message or "not the weights of a CLIP" in message or "proj" in key or "attnpool" in key, (
      key,
      message,
    )
    for spoilt in (np.concatenate([np.ravel(arrays[key])] * 2), np.full_like(arrays[key], np.nan)):
      with pytest.raises(UserError) as refused:
        clip.read({**arrays, key: spoilt}, description)
      assert "\n" not in str(refused.value)


def test_what_is_left_over_is_named():
  arrays, description = file("open_clip")
  with pytest.raises(UserError, match=r"visual\.attn_pool\.query, which this CLIP has no place for"):
    clip.read({**arrays, "visual.attn_pool.query": np.ones(3)}, description)


def test_the_mask_that_an_archive_keeps_is_taken_where_it_is_causal():
  arrays, description = file("open_clip")
  mask = np.triu(np.full((9, 9), -np.inf, np.float32), 1)
  clip.read({**arrays, "attn_mask": mask, "transformer.resblocks.0.attn_mask": mask}, description)
  for other in (mask.T, np.zeros((9, 9)), np.zeros(3), np.full((9, 9), -np.inf)):
    with pytest.raises(UserError, match="not that of a causal text tower"):
      clip.read({**arrays, "attn_mask": other}, description)


def test_a_negative_variance_is_damage():
  arrays, description = file("ResNet")
  arrays["visual.bn2.running_var"] = -arrays["visual.bn2.running_var"]
  with pytest.raises(UserError, match="negative variance"):
    clip.read(arrays, description)


def test_weights_that_do_not_say_which_gelu_want_their_description():
  for name in ("open_clip", "Hugging Face"):
    arrays, _ = file(name)
    with pytest.raises(UserError, match="do not say whether they are of GELU or QuickGELU"):
      clip.read(arrays)


def test_other_weights_are_not_a_clip_s():
  assert not clip.recognises({"encoder.conv_in.weight": 0, "logit_scale": 0})
  with pytest.raises(UserError, match="not the weights of a CLIP"):
    clip.read({"encoder.conv_in.weight": np.ones(3)})


def test_a_description_of_another_network_is_refused():
  arrays, description = file("open_clip")
  vision = {**description["vision_cfg"], "image_size": 32}
  with pytest.raises(UserError, match="the description has 32 pixels a side, the weights have 24"):
    clip.read(arrays, {**description, "vision_cfg": vision})
  with pytest.raises(UserError, match="the description has 3 layers of captions, the weights have 2"):
    clip.read(arrays, {**description, "text_cfg": {**description["text_cfg"], "layers": 3}})
  with pytest.raises(UserError, match="does not divide into 7 heads"):
    clip.read(arrays, {**description, "text_cfg": {**description["text_cfg"], "heads": 7}})
  arrays, _ = file("OpenAI")
  with pytest.raises(UserError, match="this CLIP's context_length is 77, and its arrays are of 9"):
    clip.read({**arrays, **clip_arrays.scalars(24, length=77)})


@pytest.mark.parametrize(
  ("change", "told"),
  [
    ({"vision_cfg": {"pool_type": "avg"}}, "pool_type is 'avg': tok is wanted"),
    ({"vision_cfg": {"attentional_pool": True}}, "attentional_pool is True"),
    ({"vision_cfg": {"timm_model_name": "vit"}}, "timm_model_name is 'vit'"),
    ({"text_cfg": {"no_causal_mask": True}}, "no_causal_mask is True"),
    ({"text_cfg": {"hf_tokenizer_name": "bert"}}, "hf_tokenizer_name is 'bert'"),
    ({"text_cfg": {"pool_type": "last"}}, "pool_type 'last': argmax or eos"),
    ({"multimodal_cfg": {"layers": 2}}, "multimodal_cfg is"),
    ({"vision_cfg": {"image_size": "large"}}, "can't be read"),
  ],
)
def test_what_is_not_built_is_refused(change, told):
  description = {**clip_arrays.OPEN_CLIP}
  for key, value in change.items():
    description[key] = {**description.get(key, {}), **value}
  with pytest.raises(UserError, match=told):
    clip_description.described(description)


def test_what_a_description_says_is_read():
  preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "interpolation": "bicubic"}
  told = clip_description.described({"model_cfg": clip_arrays.OPEN_CLIP, "preprocess_cfg": preprocess})
  assert (told.mean, told.std, told.vision_heads, told.end) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1), 3, None)
  text = {**clip_arrays.OPEN_CLIP["text_cfg"], "pool_type": "eos", "eos_id": 7}
  assert clip_description.described({**clip_arrays.OPEN_CLIP, "text_cfg": text}).end == 7
  old = {"vision_config": {}, "text_config": {"eos_token_id": 2}, "text_config_dict": {"hidden_act": "gelu"}}
  told = clip_description.described(old)
  assert (told.vision_heads, told.text_heads, told.image, told.end) == (12, 8, 224, None)
  assert (told.vision_layers, told.text_layers) == ((12,), 12)
  assert (told.vision_quick_gelu, told.text_quick_gelu) == (True, False)
  for wrong in ({}, {"vision_config": {}, "text_config": {"hidden_act": "relu"}}, {"model_cfg": 3}):
    with pytest.raises(UserError):
      clip_description.described(wrong)


@pytest.mark.parametrize(
  ("width", "vision", "heads"),
  [(768, True, 12), (1024, True, 16), (1280, True, 16), (1280, False, 20), (1664, True, 16)],
)
def test_heads_by_the_width_are_those_of_the_published_networks(width, vision, heads):
  assert clip_description.heads_by_width(width, vision=vision) == heads


def flat(tree, path=""):
  if not isinstance(tree, dict):
    return {path: tree}
  return {k: v for key, inner in tree.items() for k, v in flat(inner, f"{path}.{key}".lstrip(".")).items()}


def by_hugging_face_s_names(arrays):
  """As transformers' own conversion renames them: three arrays of one, the heads turned."""
  renamed = {"logit_scale": arrays["logit_scale"]}
  whole = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
  }
  parts = [
    *[
      ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
      ("visual.ln_pre", "vision_model.pre_layrnorm"),
    ],
    *[("visual.ln_post", "vision_model.post_layernorm"), ("transformer.resblocks.", "text_model.encoder.layers.")],
    *[("ln_final", "text_model.final_layer_norm"), (".ln_1", ".layer_norm1"), (".ln_2", ".layer_norm2")],
    *[(".mlp.c_fc", ".mlp.fc1"), (".mlp.c_proj", ".mlp.fc2"), (".attn.out_proj", ".self_attn.out_proj")],
  ]
  for name, array in arrays.items():
    if name in ("visual.proj", "text_projection"):
      renamed[f"{name.replace('visual.proj', 'visual_projection')}.weight"] = array.T
      continue
    new = whole.get(name, name)
    for old, by in parts if new == name else ():
      new = new.replace(old, by)
    if ".attn.in_proj_" in new:
      for letter, third in zip("qkv", np.split(array, 3)):
        renamed[new.replace("attn.in_proj_", f"self_attn.{letter}_proj.")] = third
    else:
      renamed[new] = array
  return renamed
