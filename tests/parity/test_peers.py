"""minDALL-E's and ruDALL-E's transformers against their own programs, with random weights and small sizes.

Weights go the way of a user's: saved by torch as the project saves them, found by our reader, read by our converter.
"""

import dataclasses
import functools

import jax
import numpy as np
import official
import official_peers
import pytest
import random_weights
from small_peers import BATCH, GRID, HEADS, SMALL, TEXT, WIDTH, mindalle, rudalle, their_joint, their_parts, tokens

from dalle_jax.convert import mindalle as convert_mindalle
from dalle_jax.convert import rudalle as convert_rudalle
from dalle_jax.models.peers.attention import Torus
from dalle_jax.models.peers.mindalle import MinDalle
from dalle_jax.models.peers.rudalle import RuDalle
from dalle_jax.ops.sparse_attention import Pattern
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.peers import draw

pytestmark = [
  pytest.mark.parity,
  pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # ruDALL-E's GELU is a TorchScript function
  pytest.mark.filterwarnings("ignore:.*torch.cuda.amp.autocast:FutureWarning"),  # minDALL-E's sampler asks for it
]

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def one_thread():
  """Networks this small are quicker so."""
  torch = official.load("torch")
  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(threads)


def saved(module):
  """The arrays of the file that the module's project would write: ruDALL-E's state, minDALL-E's below `state_dict`."""
  state = module.state_dict()
  whole = state if "to_logits.1.weight" in state else {"state_dict": state}
  return official.read_back(whole, "stage2_last.ckpt")


@functools.partial(jax.jit, static_argnames=("net", "method"))
def applied(params, *ids, net, method="__call__"):
  return net.apply({"params": params}, *ids, method=method)


def our_joint(cfg, params, *ids):
  return np.asarray(applied(params, *ids, net=RuDalle(cfg), method="joint"))


def our_parts(net, params, *ids):
  return [np.asarray(part) for part in applied(params, *ids, net=net)]


def assert_same_tokens(ours, theirs):
  """At least 99.9 % of the likeliest tokens are the same; where not, the two lie as near as the tolerance."""
  a, b = ours.argmax(-1), theirs.argmax(-1)
  assert (a == b).mean() >= 0.999
  gap = np.take_along_axis(theirs, b[..., None], -1) - np.take_along_axis(theirs, a[..., None], -1)
  assert gap.max() <= 2 * TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize("version", [2, 3])
def test_rudalles_logits_are_its_own_programs(version):
  module, ids = rudalle(version), tokens()
  cfg, params = convert_rudalle.read(saved(module), heads=HEADS)
  theirs, ours = their_joint(module, *ids), our_joint(cfg, params, *ids)
  assert random_weights.error(ours, theirs) <= TOLERANCE
  assert_same_tokens(ours, theirs)


@pytest.mark.parametrize("version", [2, 3])
def test_every_tensor_of_rudalle_matters(version):
  text, grid = SMALL.values()
  module, ids = rudalle(version, text, grid, layers=3), tokens(text, grid)
  assert random_weights.idle(module.state_dict(), lambda: their_joint(module, *ids), TOLERANCE) == []


def test_rudalles_versions_differ_by_alignment_and_by_the_last_window():
  third, second, ids = rudalle(3), rudalle(2), tokens()
  cfg, params = convert_rudalle.read(saved(third), heads=HEADS)
  theirs = their_joint(third, *ids)
  assert random_weights.error(their_joint(second, *ids), theirs) > 100 * TOLERANCE
  for change in ({"carried": TEXT + 1}, {"wraps": True}):
    assert random_weights.error(our_joint(dataclasses.replace(cfg, **change), params, *ids), theirs) > 100 * TOLERANCE


def test_pb_relax_changes_nothing_even_where_scores_are_large():
  relaxed, plain, ids = rudalle(3, layers=1), rudalle(3, layers=1, relax=False), tokens()
  for module in (relaxed, plain):
    module.transformer.layers[0].attention.query_key_value.weight.data[: 2 * WIDTH] *= 8
  scores = []
  attention = relaxed.transformer.layers[0].attention
  weigh = attention._calculate_attention_scores
  attention._calculate_attention_scores = lambda **given: scores.append(weigh(**given)) or scores[-1]
  theirs = their_joint(relaxed, *ids)
  assert scores[0].max() == 0
  assert scores[0][scores[0] > -5000].min() < -200  # exp of it is no float32
  ours = our_joint(*convert_rudalle.read(saved(relaxed), heads=HEADS), *ids)
  assert random_weights.error(ours, theirs) <= TOLERANCE
  assert random_weights.error(ours, their_joint(plain, *ids)) <= TOLERANCE


@pytest.mark.parametrize(("text", "grid"), [(TEXT, GRID), (128, 32)])
def test_rudalles_masks_are_patterns(text, grid):
  masks = official_peers.rudalle("dalle.image_attention")
  get = lambda kind, **more: getattr(masks, f"get_{kind}_mask")(text, grid, is_bool_mask=True, **more).numpy()  # noqa: E731
  np.testing.assert_array_equal(Pattern(text, grid, "row").mask(), get("row"))
  np.testing.assert_array_equal(Pattern(text, grid, "column").mask(), get("col"))
  np.testing.assert_array_equal(Pattern(text, grid, "conv_clamped").mask(), get("conv", hf_version="v3"))
  np.testing.assert_array_equal(Torus(text, grid, 11).mask(), get("conv", hf_version="v2"))
  assert (get("conv", hf_version="v2") != get("conv", hf_version="v3")).any()
  assert (Pattern(text, grid, "conv").mask() != get("conv", hf_version="v3")).any()


@pytest.mark.parametrize("layers", [4, 6, 12, 24, 64])
def test_rudalles_layers_have_their_own_masks(layers):
  module = rudalle(3, *SMALL.values(), layers=layers)
  cfg, _ = convert_rudalle.read(saved(module), heads=HEADS, version=3)
  for i in range(layers):
    np.testing.assert_array_equal(cfg.sees(i).mask(), module.transformer._get_layer_mask(i).numpy())


@pytest.mark.parametrize(("version", "drawn"), [(2, 0), (3, -1)])
def test_rudalles_alignment(version, drawn):
  """Which position first depends on code j, and at which its program's sampler draws code j."""
  module, (text_BT, codes_BN) = rudalle(version), tokens()
  cfg, params = convert_rudalle.read(saved(module), heads=HEADS)
  j = 7
  changed_BN = codes_BN.copy()
  changed_BN[:, j] = (codes_BN[:, j] + 1) % 40

  def moved(logits):
    """The first position that the change reaches; their PB-relax rounds all positions by the greatest score of any."""
    before, after = logits(codes_BN), logits(changed_BN)
    return np.flatnonzero((np.abs(after - before) > TOLERANCE * np.abs(before).max()).any((0, 2)))[0]

  assert moved(lambda codes: their_joint(module, text_BT, codes)) == cfg.carried + j == TEXT + drawn + 1 + j
  assert moved(lambda codes: our_joint(cfg, params, text_BT, codes)) == cfg.carried + j
  # Given the text alone, the program's last logits draw code 0; given j codes, code j.
  image_BNW = our_parts(RuDalle(cfg), params, text_BT, codes_BN)[1]
  for count in (0, 1, j):
    theirs = their_joint(module, text_BT, codes_BN[:, :count])[:, -1, 50 + TEXT :]
    assert random_weights.error(image_BNW[:, count], theirs) <= TOLERANCE
    assert random_weights.error(image_BNW[:, count + 1], theirs) > 100 * TOLERANCE


def test_mindalles_logits_are_its_own_programs():
  module, ids = mindalle(), tokens()
  cfg, params = convert_mindalle.read(saved(module), heads=HEADS)
  theirs, ours = their_parts(module, *ids), our_parts(MinDalle(cfg), params, *ids)
  assert random_weights.error(ours, theirs) <= TOLERANCE
  for part in zip(ours, theirs):
    assert_same_tokens(*part)


def test_every_tensor_of_mindalle_matters():
  text, grid = SMALL.values()
  module, ids = mindalle(text, grid, layers=2), tokens(text, grid)
  # A key's bias adds the same to all scores of a query, which softmax does not see.
  keys = [name for name in module.state_dict() if name.endswith("attn.key.bias")]
  assert random_weights.idle(module.state_dict(), lambda: their_parts(module, *ids), TOLERANCE, leave=keys) == []


def test_mindalles_alignment():
  """What its program's sampler draws after j codes is our logits of code j."""
  torch = official.load("torch")
  module, (text_BT, codes_BN) = mindalle(), tokens()
  cfg, params = convert_mindalle.read(saved(module), heads=HEADS)
  ours = our_parts(MinDalle(cfg), params, text_BT, codes_BN)[1]
  text, places = torch.from_numpy(text_BT).long(), torch.arange(GRID**2)[None]
  for count in (0, 1, 7):
    codes = torch.from_numpy(codes_BN[:, :count]).long() if count else None
    theirs, _ = module.sampling(codes, text, places[:, :count], places[:, :TEXT], use_fp16=False)
    assert random_weights.error(ours[:, count], theirs.numpy()) <= TOLERANCE
    assert random_weights.error(ours[:, count + 1], theirs.numpy()) > 100 * TOLERANCE


@pytest.mark.parametrize("version", [2, 3])
def test_rudalle_draws_what_its_program_draws(version):
  """The likeliest tokens, one after the other: ours by our caches, theirs by theirs."""
  torch = official.load("torch")
  text, grid = SMALL.values()
  module, (text_BT, _) = rudalle(version, text, grid, layers=3), tokens(text, grid)
  cfg, params = convert_rudalle.read(saved(module), heads=HEADS, version=version)
  drawn, cache, length = torch.from_numpy(text_BT).long(), None, module.total_seq_length
  mask = torch.tril(torch.ones(BATCH, 1, length, length))
  with torch.no_grad():
    for _ in range(grid**2):
      logits, cache = module(drawn, mask, use_cache=True, cache=cache)
      drawn = torch.cat([drawn, logits[:, -1:, module.vocab_size :].argmax(-1)], dim=1)
  codes = _drawn(RuDalle(cfg), params, text_BT)
  assert len(np.unique(codes)) > 3
  np.testing.assert_array_equal(codes, drawn[:, text:].numpy())


def test_mindalle_draws_what_its_program_draws():
  torch = official.load("torch")
  text, grid = SMALL.values()
  module, (text_BT, _) = mindalle(text, grid, layers=2), tokens(text, grid)
  cfg, params = convert_mindalle.read(saved(module), heads=HEADS)
  texts, places = torch.from_numpy(text_BT).long(), torch.arange(grid**2)[None]
  logits, past = module.sampling(None, texts, None, places[:, :text], use_fp16=False)
  drawn, past = logits.argmax(-1, keepdim=True), [torch.stack(past)]
  while drawn.shape[1] < grid**2:
    j = drawn.shape[1] - 1
    logits, now = module.sampling(drawn[:, j:], texts, places[:, j : j + 1], None, use_fp16=False, past=past)
    drawn, past = torch.cat([drawn, logits.argmax(-1, keepdim=True)], dim=1), [*past, torch.stack(now)]
  codes = _drawn(MinDalle(cfg), params, text_BT)
  assert len(np.unique(codes)) > 3
  np.testing.assert_array_equal(codes, drawn.numpy())


def _drawn(net, params, text_BT):
  most_likely = SamplingConfig(temperature=0.0)
  rows, one = np.arange(BATCH, dtype=np.int32), np.zeros(1, np.int32)
  args = jax.tree.map(jax.numpy.asarray, (params, text_BT, jax.random.key(0), rows, one))
  return np.asarray(draw(*args, net=net, sampling=most_likely))[:, 0]
