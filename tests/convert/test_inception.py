"""Inception's weights by their official names, and what is told of files that are not those."""

import inception_arrays
import numpy as np
import pytest

from dalle_jax.convert import inception as converter
from dalle_jax.convert import kinds
from dalle_jax.errors import UserError


def test_arrays_go_where_they_belong_and_are_turned():
  arrays = inception_arrays.official()
  cfg, params = converter.read(arrays)
  assert (cfg.thin, cfg.classes) == (16, 11)
  kernel_hwCD = params["Mixed_6b"]["branch7x7_2"]["kernel"]
  assert kernel_hwCD[0, 6, 3, 5] == arrays["Mixed_6b.branch7x7_2.conv.weight"][5, 3, 0, 6]
  assert params["fc"]["kernel"][100, 7] == arrays["fc.weight"][7, 100]
  assert (params["Conv2d_1a_3x3"]["variance"] == arrays["Conv2d_1a_3x3.bn.running_var"]).all()
  assert (params["Conv2d_1a_3x3"]["scale"] == arrays["Conv2d_1a_3x3.bn.weight"]).all()


def test_the_kind_is_told_by_the_names():
  arrays = inception_arrays.official()
  assert kinds.find(arrays, "a file") == "inception"
  assert not converter.recognises([name for name in arrays if not name.startswith("fc")])


def spoilt(change):
  arrays = inception_arrays.official()
  change(arrays)
  return arrays


@pytest.mark.parametrize(
  ("change", "says"),
  [
    (lambda a: a.pop("Mixed_5b.branch1x1.bn.bias"), "lack Mixed_5b.branch1x1.bn.bias"),
    (lambda a: a.pop("fc.bias"), "lack fc.bias"),
    (lambda a: a.update(head=np.zeros(3, np.float32)), "hold head, which is no array of FID's"),
    (lambda a: a.update({"fc.weight": a["fc.weight"].T}), r"fc.weight is float32\[128, 11\], wanted .*\[11, 128\]"),
    (lambda a: a["Mixed_7a.branch3x3_1.conv.weight"].fill(np.nan), "Mixed_7a.branch3x3_1.conv.weight holds numbers"),
    (lambda a: a.update({"fc.bias": np.zeros(11, np.int32)}), r"fc.bias is int32\[11\], wanted floating point\[11\]"),
    (lambda a: a.update({"fc.bias": np.zeros(1000, np.float32)}), "torchvision's Inception weights"),
    (lambda a: a.update({"Conv2d_1a_3x3.conv.weight": np.zeros((5, 3, 3, 3))}), "wanted \\[32, 3, 3, 3\\]"),
  ],
)
def test_what_is_wrong_is_named(change, says):
  with pytest.raises(UserError, match=says):
    converter.read(spoilt(change))
