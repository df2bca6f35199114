"""Files of ruDALL-E and minDALL-E are read whole or refused; their outputs are compared in tests/parity."""

import jax
import numpy as np
import peer_arrays
import pytest
from peer_arrays import GRID, HEADS, IMAGE_VOCAB, LAYERS, TEXT, TEXT_VOCAB, WIDTH

from dalle_jax.convert import kinds, mindalle, rudalle
from dalle_jax.errors import UserError
from dalle_jax.models.peers.attention import Torus
from dalle_jax.models.peers.mindalle import MinDalle
from dalle_jax.models.peers.rudalle import RuDalle
from dalle_jax.ops.sparse_attention import Pattern


def read_rudalle(arrays, **how):
  return rudalle.read(arrays, heads=HEADS, **{"version": 3, **how})


def read_mindalle(arrays):
  return mindalle.read(arrays, heads=HEADS)


def masks(grid=GRID, wraps=False):
  window = Torus(TEXT, grid, 11) if wraps else Pattern(TEXT, grid, "conv_clamped")
  seen = {"row": Pattern(TEXT, grid, "row"), "col": Pattern(TEXT, grid, "column"), "conv": window}
  return {f"transformer.{name}_mask": pattern.mask() for name, pattern in seen.items()}


KINDS = [
  pytest.param(peer_arrays.rudalle, read_rudalle, RuDalle, id="rudalle"),
  pytest.param(peer_arrays.mindalle, read_mindalle, MinDalle, id="mindalle"),
]


def test_each_recognises_its_own_files_alone():
  ru, mini = set(peer_arrays.rudalle()), set(peer_arrays.mindalle())
  whole = {f"stage2.{name}" for name in mini} | {"stage1.quantize.embedding.weight"}
  assert [rudalle.recognises(names) for names in (ru, mini, whole, set())] == [True, False, False, False]
  assert [mindalle.recognises(names) for names in (ru, mini, whole, set())] == [False, True, True, False]


@pytest.mark.parametrize(("arrays", "read", "network"), KINDS)
def test_sizes_are_those_of_the_arrays_and_parameters_those_of_the_network(arrays, read, network):
  cfg, params = read({name: array.astype(np.float16) for name, array in arrays().items()})
  assert (cfg.text, cfg.text_vocab, cfg.grid, cfg.image_vocab) == (TEXT, TEXT_VOCAB, GRID, IMAGE_VOCAB)
  assert (cfg.layers, cfg.width, cfg.heads, cfg.carried) == (LAYERS, WIDTH, HEADS, TEXT)
  ids = np.zeros((1, TEXT), np.int32), np.zeros((1, GRID**2), np.int32)
  wanted = jax.eval_shape(network(cfg).init, jax.random.key(0), *map(jax.numpy.asarray, ids))["params"]
  shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
  assert shapes(params) == shapes(jax.tree.map(lambda box: getattr(box, "value", box), wanted, is_leaf=_is_box))


def _is_box(leaf):
  return hasattr(leaf, "value")


@pytest.mark.parametrize(("arrays", "read", "_"), KINDS)
def test_a_file_that_is_not_whole_and_right_is_refused_by_the_name_that_is_not(arrays, read, _):
  for name, array in arrays().items():
    given = arrays()
    del given[name]
    with pytest.raises(UserError, match=name):
      read(given)
    with pytest.raises(UserError, match=r"weight|bias|width"):  # one table's tells the width that others then miss
      read({**arrays(), name: np.concatenate([array, array[..., :1]], axis=-1)})
    spoilt = array.copy()
    spoilt.reshape(-1)[-1] = np.nan
    with pytest.raises(UserError, match=name):
      read({**arrays(), name: spoilt})
  with pytest.raises(UserError, match="blocks_9"):
    read({**arrays(), "blocks_9": np.zeros(3)})


def test_the_transformer_is_taken_out_of_a_file_with_the_tokenizer():
  arrays = peer_arrays.mindalle()
  whole = {f"stage2.{name}": array for name, array in arrays.items()} | {"stage1.any": np.zeros(3, np.float32)}
  (cfg, params), (other_cfg, others) = read_mindalle(whole), read_mindalle(arrays)
  assert cfg == other_cfg
  jax.tree.map(np.testing.assert_array_equal, params, others)


def test_sizes_that_no_array_tells_are_asked_for():
  with pytest.raises(UserError, match="no ruDALL-E of width 12 was published"):
    rudalle.read(peer_arrays.rudalle())
  with pytest.raises(UserError, match="no minDALL-E of width 12 was published"):
    mindalle.read(peer_arrays.mindalle())
  with pytest.raises(UserError, match="those of a square grid are wanted"):
    read_mindalle({**peer_arrays.mindalle(), "pos_emb_img.weight": np.zeros((GRID**2 - 1, WIDTH), np.float32)})


def test_rudalles_version_is_told_by_its_masks_or_asked_for():
  grid, d = 13, WIDTH
  rows = {f"image_{which}_embeddings.weight": np.ones((grid, d), np.float32) for which in ("row", "col")}
  arrays = {**peer_arrays.rudalle(), **rows}
  third, _ = read_rudalle({**arrays, **masks(grid)}, version=None)
  second, _ = read_rudalle({**arrays, **masks(grid, wraps=True)}, version=None)
  assert (third.carried, third.wraps) == (TEXT, False)
  assert (second.carried, second.wraps) == (TEXT + 1, True)
  assert read_rudalle(arrays, version=2)[0] == second
  with pytest.raises(UserError, match=r"say --kind rudalle_2 \(Malevich_v2, Emojich\) or rudalle_3"):
    read_rudalle(arrays, version=None)
  for name, mask in masks(grid).items():
    with pytest.raises(UserError, match=f"this file's {name.removeprefix('transformer.')} is not ruDALL-E's"):
      read_rudalle({**arrays, **masks(grid), name: ~mask}, version=None)


def test_masks_of_rudalles_first_release_are_the_whole_networks():
  grid, d = 13, WIDTH
  rows = {f"image_{which}_embeddings.weight": np.ones((grid, d), np.float32) for which in ("row", "col")}
  for wraps in (False, True):
    first = {name.removeprefix("transformer."): mask for name, mask in masks(grid, wraps=wraps).items()}
    assert list(first) == ["row_mask", "col_mask", "conv_mask"]
    cfg, _ = read_rudalle({**peer_arrays.rudalle(), **rows, **first}, version=None)
    assert cfg.wraps == wraps


def test_a_version_that_is_asked_for_is_taken_whatever_the_masks_are():
  # ruDALL-E goes by the model's name alone, and its files keep masks that its own program does not read.
  grid, d = 13, WIDTH
  rows = {f"image_{which}_embeddings.weight": np.ones((grid, d), np.float32) for which in ("row", "col")}
  arrays = {**peer_arrays.rudalle(), **rows, **masks(grid)}
  assert not read_rudalle(arrays, version=None)[0].wraps
  assert read_rudalle(arrays, version=2)[0].wraps
  assert read_rudalle({**arrays, "transformer.row_mask": np.zeros((1, 1))}, version=3)[0].carried == TEXT
  with pytest.raises(UserError, match="got version 4 of ruDALL-E, wanted 2 or 3"):
    read_rudalle(arrays, version=4)


def test_a_version_that_is_asked_for_is_a_kind(monkeypatch):
  monkeypatch.setitem(rudalle.HEADS, WIDTH, HEADS)
  arrays = peer_arrays.rudalle()
  assert kinds.find(arrays, "x") == "rudalle"
  for version in (2, 3):
    assert kinds.one(f"rudalle_{version}").read(arrays)[0] == read_rudalle(arrays, version=version)[0]
