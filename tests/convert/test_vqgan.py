"""VQGANs are told by their names, and what is wrong with their arrays is told by name. Values: see tests/parity."""

import numpy as np
import pytest
import vqgan_files

from dalle_jax.convert import dalle_mini, kinds
from dalle_jax.convert import vqgan as taming
from dalle_jax.errors import UserError

DECODER = {"quantize.embedding.weight": "embedding.weight"}


def decoder():
  """Arrays as min-dalle names them."""
  found = {DECODER.get(name, name): array for name, array in vqgan_files.arrays().items()}
  return {name: array for name, array in found.items() if not name.startswith(("encoder.", "quant_conv."))}


def test_each_is_one_kind():
  assert kinds.find(vqgan_files.arrays(), "a file") == "vqgan"
  assert kinds.find(decoder(), "a file") == "dalle_mini_vqgan"
  gone = {name: array for name, array in vqgan_files.arrays().items() if name != "encoder.conv_in.weight"}
  assert not taming.recognises(gone)


def test_sizes_are_those_that_the_file_was_written_of():
  assert taming.read(vqgan_files.arrays(), image=16)[0] == vqgan_files.SMALL
  cfg, params = dalle_mini.read(decoder(), image=16)
  assert (cfg.encoder, cfg.low, cfg.epsilon, cfg.multiples, cfg.attention) == (False, 0.0, 1e-5, (1, 2), (1,))
  assert "encoder" not in params


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"decoder.mid.attn_1.q.weight": None}, "the array decoder.mid.attn_1.q.weight is missing"),
    ({"encoder.down.2.block.7.conv1.weight": np.zeros(3)}, "encoder.down.2.block.7.conv1.weight is of another model"),
    ({"quant_conv.bias": np.zeros(7)}, "quant_conv.bias is (7,), wanted (6,)"),
    ({"quant_conv.bias": np.full(6, np.nan)}, "quant_conv.bias holds NaN"),
    ({"quantize.embedding.weight": np.zeros(32)}, "quantize.embedding.weight is (32,), wanted 2 axes"),
    ({"quantize.embedding.weight": None}, "quantize.embedding.weight is missing"),
    ({"decoder.decoder.conv_in.weight": np.zeros(3)}, "these weights draw 512 pixels by wavelets: take ruDALL-E's"),
    ({"encoder.conv_in.weight": None}, "no VQGAN of taming-transformers has these names"),
  ],
)
def test_what_is_wrong_is_told_by_name(change, words):
  arrays = {name: array for name, array in (vqgan_files.arrays() | change).items() if array is not None}
  with pytest.raises(UserError) as info:
    taming.read(arrays)
  assert words in str(info.value)
