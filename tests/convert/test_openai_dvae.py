"""OpenAI's dVAE is read by its arrays' names, and the first that does not fit is named."""

import jax
import numpy as np
import openai_files
import pytest

from dalle_jax.convert import openai_dvae
from dalle_jax.errors import UserError
from dalle_jax.models import dvae
from dalle_jax.sharding import unbox


def both(**changes):
  named = {f"{half}.{name}": a for half in ("encoder", "decoder") for name, a in openai_files.arrays(half).items()}
  return {name: array for name, array in (named | changes).items() if array is not None}


def test_every_parameter_of_ours_is_there_in_its_shape():
  cfg, params = openai_dvae.read(both())
  model = dvae.Dvae(dvae.Config(image=16, vocab=32, hidden=8, code_dim=4, blocks=1))
  wanted = unbox(jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))["params"])
  assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(lambda x: x.shape, wanted)
  assert cfg.blocks == 1


def test_the_halves_are_told_apart_by_what_is_in_them():
  swapped = {name.replace("encoder.", "b.").replace("decoder.", "a."): array for name, array in both().items()}
  named, other = openai_dvae.read(both())[1], openai_dvae.read(swapped)[1]
  jax.tree.map(np.testing.assert_array_equal, named, other)


def test_it_is_known_by_its_names_alone():
  assert openai_dvae.recognises(both().keys())
  assert openai_dvae.recognises(openai_files.arrays("encoder").keys())
  assert not openai_dvae.recognises(["visual.conv1.weight", "blocks.input.w"])


NAME = "encoder.blocks.group_2.block_1.id_path.w"


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({NAME: None}, f"the array {NAME} is missing"),
    ({NAME: np.zeros((16, 8, 3, 3), np.float32)}, f"the array {NAME} is (16, 8, 3, 3), wanted (16, 8, 1, 1)"),
    ({NAME: np.full((16, 8, 1, 1), np.nan, np.float32)}, f"the array {NAME} holds NaN or infinity"),
    ({NAME: np.full((16, 8, 1, 1), 1e300)}, f"the array {NAME} holds NaN or infinity"),
    ({NAME: np.zeros((16, 8, 1, 1), np.complex64)}, f"the array {NAME} holds complex numbers"),
    ({"encoder.more": np.zeros(3, np.float32)}, "the array encoder.more is of another model"),
    ({"more": np.zeros(3, np.float32)}, "the array more is of another model"),
    ({"decoder.blocks.input.w": None}, "its decoder is there not"),
    ({"third.blocks.input.w": np.zeros((8, 3, 7, 7), np.float32)}, "its encoder is there 2 times"),
  ],
)
def test_the_first_array_that_does_not_fit_is_named(changes, words):
  with pytest.raises(UserError) as info:
    openai_dvae.read(both(**changes))
  assert words in str(info.value)
