import json

import clip_arrays
import clip_words
import numpy as np
import pytest
from safetensors.numpy import save_file

from dalle_jax import cli, convert_files, places, published
from dalle_jax.convert import clip, weights
from dalle_jax.errors import UserError

TEXT = {**clip_arrays.HUGGING_FACE["text_config"], "eos_token_id": clip_words.SIZE - 1}
DESCRIPTION = {**clip_arrays.HUGGING_FACE, "text_config": TEXT}


def face(folder):
  """A folder as Hugging Face's: weights, their description, the two files of the vocabulary."""
  folder.mkdir()
  save_file(clip_arrays.drawn(clip_arrays.hugging_face(clip_words.SIZE)), folder / "model.safetensors")
  (folder / "config.json").write_text(json.dumps(DESCRIPTION))
  clip_words.hugging_face(folder)
  return folder


def test_a_folder_of_hugging_face_becomes_a_clip_that_reads_captions(tmp_path, capsys):
  folder = face(tmp_path / "face")
  assert cli.main(["convert", str(folder), "--out", str(tmp_path / "out")]) == 0
  assert "openai_clip" in capsys.readouterr().out
  [source] = json.loads((tmp_path / "out/config.json").read_text())["sources"]
  assert source == {"file": "model.safetensors", "sha256": places.sha256(folder / "model.safetensors")}
  found = published.clip(tmp_path / "out")
  arrays = clip_arrays.drawn(clip_arrays.hugging_face(clip_words.SIZE))
  cfg, params = clip.read(arrays, DESCRIPTION)
  assert found.model == cfg
  assert weights.flat(found.params).keys() == weights.flat(params).keys()
  for name, array in weights.flat(params).items():
    np.testing.assert_array_equal(weights.flat(found.params)[name], array)
  assert found.embed_texts(["the cat", "a cart"]).shape == (2, 20)
  assert len(found.digest) == 64


def test_a_folder_that_holds_two_descriptions_is_read_by_the_one_of_its_names(tmp_path):
  folder = face(tmp_path / "face")
  (folder / "open_clip_config.json").write_text('{"model_cfg": {"vision_cfg": {"layers": 77}, "text_cfg": {}}}')
  convert_files.convert([folder], tmp_path / "out")
  assert published.clip(tmp_path / "out").model.text.stack.heads == 2


@pytest.mark.parametrize(
  ("spoil", "told"),
  [
    (lambda folder: (folder / "merges.txt").unlink(), "no vocabulary is beside the weights"),
    (lambda folder: (folder / "merges.txt").write_text("v\nno merge here\n"), "which is no merge of two"),
    (lambda folder: clip_words.hugging_face(folder, clip_words.MERGES[:3]), "the vocabulary has 517 ids"),
    (lambda folder: (folder / "config.json").unlink(), "do not say whether they are of GELU or QuickGELU"),
    (lambda folder: (folder / "config.json").write_text("{"), "can't read"),
  ],
)
def test_what_is_missing_or_damaged_beside_the_weights_is_one_line_and_nothing_is_written(tmp_path, spoil, told):
  folder = face(tmp_path / "face")
  spoil(folder)
  with pytest.raises(UserError, match=told) as refused:
    convert_files.convert([folder], tmp_path / "out")
  assert "\n" not in str(refused.value)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["face"]


def test_openai_s_files_are_named_one_by_one(tmp_path):
  shapes = {**clip_arrays.openai_vit(width=64), **clip_arrays.openai_text(width=64, vocab=clip_words.SIZE)}
  arrays = {**clip_arrays.drawn(shapes), **clip_arrays.scalars(24, vocab=clip_words.SIZE)}
  save_file(arrays, tmp_path / "clip.safetensors")
  words = clip_words.openai(tmp_path)
  convert_files.convert([tmp_path / "clip.safetensors", words], tmp_path / "out")
  found = published.clip(tmp_path / "out")
  assert found.model.vision.stack.quick_gelu
  assert (tmp_path / "out" / words.name).read_bytes() == words.read_bytes()


def test_other_weights_are_no_clip(tmp_path):
  with pytest.raises(
    UserError, match=r"holds no converted CLIP: `dalle convert ViT-B-32\.pt bpe_simple_vocab_16e6\.txt\.gz --out "
  ):
    published.clip(tmp_path)
