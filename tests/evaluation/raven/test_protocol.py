"""The blog's protocol on Raven's matrices: what is given and drawn, which items there are, how they are counted."""

import dataclasses
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.data.raven import items, panels, rules
from dalle_jax.errors import UserError
from dalle_jax.evaluation.intervals import wilson
from dalle_jax.evaluation.raven import page, protocol, table
from dalle_jax.evaluation.raven.judge import judge
from dalle_jax.models import dvae, transformer
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.generate import generate_recompute
from dalle_jax.schedules import Constant

LAYOUT = items.Layout(image=48, grid=6)
TEXT = np.array([3, 4, 18], np.int32)


def weights(init, seed):
  shapes = sharding.unbox(jax.eval_shape(init, jax.random.key(0)))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), x.dtype), shapes)


@pytest.fixture(scope="module")
def drawer():
  words = transformer.Config(
    text_vocab=16, text=3, image_vocab=12, grid=6, layers=1, heads=2, head_dim=4, mix=("full",), last=None
  )
  pictures = dvae.Config(image=48, vocab=12, hidden=4, groups=4, blocks=1, code_dim=4)
  return Drawer(
    transformer=words,
    transformer_params=weights(TransformerNll(model=words).init, 0),
    dvae=pictures,
    dvae_params=weights(DvaeElbo(model=pictures, kl=Constant(0.0), temperature=Constant(1.0)).init, 1),
    batch=4,
  )


@pytest.fixture(scope="module")
def asked():
  rng = random.Random(0)
  return [items.draw(kind, rng, LAYOUT) for kind in rules.KINDS]


@pytest.fixture(scope="module")
def outcomes(drawer, asked):
  return protocol.complete(drawer, TEXT, asked)


def test_sets_have_as_many_items_as_asked_for_spread_over_their_kinds_and_again_inverted():
  found = protocol.choose(LAYOUT, count=5, seed=0)
  plain, inverted = found[:20], found[20:]
  assert [each.rule.letter for each in plain] == [letter for letter in "BCDE" for _ in range(5)]
  assert [each.rule.kind for each in plain[:5]] == ["identity"] * 3 + ["turning"] * 2
  assert [dataclasses.replace(each, inverted=False) for each in inverted] == plain
  assert all(each.inverted for each in inverted)
  assert protocol.choose(LAYOUT, count=5, seed=0) == found
  assert protocol.choose(LAYOUT, count=5, seed=1) != found
  assert len(protocol.choose(LAYOUT, count=1, seed=0)) == 8


def test_the_corner_is_drawn_by_argmax_and_all_else_is_given(drawer, asked, outcomes):
  """Against the whole stream computed anew for each token, at temperature 0."""
  for item, outcome in zip(asked, outcomes):
    codes_hw = drawer.encode(item.unsolved()[None])[0]
    top, left, bottom, right = item.region
    given_hw = codes_hw.copy()
    given_hw[top:bottom, left:right] = -1
    whole_CSN = generate_recompute(
      drawer.transformer_params,
      jnp.asarray(TEXT[None]),
      jax.random.key(5),
      jnp.zeros(1, jnp.int32),
      jnp.zeros(1, jnp.int32),
      model=drawer.transformer,
      sampling=protocol.ARGMAX,
      given_CN=jnp.asarray(given_hw.reshape(1, -1)),
    )
    np.testing.assert_array_equal(outcome.completed_SSC, drawer.decode(np.asarray(whole_CSN[0]))[0])
    np.testing.assert_array_equal(outcome.given_SSC, item.unsolved())
    assert outcome.verdict == judge(item.cut(outcome.completed_SSC), item)


def test_the_ceiling_is_the_judge_on_the_dvae_s_reconstruction_of_the_truth(drawer, asked, outcomes):
  for item, outcome in zip(asked, outcomes):
    whole_SSC = drawer.decode(drawer.encode(item.pixels()[None]).reshape(1, -1))[0]
    assert outcome.ceiling == judge(item.cut(whole_SSC), item)


@pytest.mark.slow
def test_eight_devices_complete_what_one_completes(drawer, asked, outcomes):
  mesh, rules = sharding.make_mesh(sharding.MeshShape(data=4, fsdp=2)), sharding.Rules()
  boxed = jax.eval_shape(TransformerNll(model=drawer.transformer).init, jax.random.key(0))
  params = jax.device_put(drawer.transformer_params, sharding.shardings(boxed, mesh, rules))
  over = dataclasses.replace(drawer, mesh=mesh, rules=rules, transformer_params=params)
  for one, eight in zip(outcomes, protocol.complete(over, TEXT, asked), strict=True):
    np.testing.assert_array_equal(one.completed_SSC, eight.completed_SSC)
    assert (one.verdict, one.ceiling) == (eight.verdict, eight.ceiling)


def test_nothing_of_the_answer_reaches_the_completed_picture(drawer, asked, outcomes):
  changed = []
  for item in asked:
    other = next(each for each in panels.alphabet(item.answer) if each != item.answer)
    changed.append(dataclasses.replace(item, rows=(*item.rows[:-1], (*item.rows[-1][:-1], other))))
  for one, other in zip(outcomes, protocol.complete(drawer, TEXT, changed)):
    np.testing.assert_array_equal(one.completed_SSC, other.completed_SSC)


def test_progress_is_told_in_batches_that_add_up(drawer, asked):
  told = []
  protocol.complete(drawer, TEXT, asked, progress=told.append)
  assert told == [4, 2]


# Counting.


def outcome(kind, *, right=False, ceiling=True, inverted=False, seed=0):
  item = items.draw(kind, random.Random(seed), LAYOUT, inverted=inverted)
  good = judge(np.array(item.cut(item.pixels())), item)
  bad = judge(np.array(item.cut(item.unsolved())), item)
  return protocol.Outcome(
    item=item,
    given_SSC=item.unsolved(),
    completed_SSC=item.pixels() if right else item.unsolved(),
    verdict=good if right else bad,
    ceiling=good if ceiling else bad,
  )


@pytest.fixture(scope="module")
def counted():
  return [
    outcome(rules.Identity, right=True, seed=1),
    outcome(rules.Identity, seed=2),
    outcome(rules.Turning, ceiling=False, seed=3),
    outcome(rules.Identity, inverted=True, seed=4),
    outcome(rules.Boolean, right=True, seed=5),
  ]


def test_rows_count_right_items_and_ceilings_by_set_and_colour(counted):
  rows = table.by_set(counted, {"identity"})
  assert [(row.name, row.inverted) for row in rows] == [("B", False), ("B", True), ("E", False)]
  assert rows[0].right == wilson(1, 3)
  assert rows[0].ceiling == wilson(2, 3)
  assert (rows[0].kinds, rows[0].trained) == (("identity", "turning"), ("identity",))
  assert rows[0].chance == pytest.approx(sum(1 / len(panels.alphabet(each.item.answer)) for each in counted[:3]) / 3)
  assert [row.right.of for row in rows] == [3, 1, 1]


def test_rows_of_kinds_and_of_what_was_trained_on(counted):
  assert [(row.name, row.right.of) for row in table.by_kind(counted, None)] == [
    ("B identity", 2),
    ("B identity", 1),
    ("B turning", 1),
    ("E boolean", 1),
  ]
  assert table.by_kind(counted, None)[0].trained is None
  training = table.by_training(counted, {"identity"})
  assert [(row.name, row.inverted, row.right.right, row.right.of) for row in training] == [
    ("trained kinds", False, 1, 2),
    ("trained kinds", True, 0, 1),
    ("other kinds", False, 1, 2),
  ]


def test_copies_of_a_neighbour_are_counted(counted):
  for row, group in zip(table.by_set(counted, None), (counted[:3], counted[3:4], counted[4:])):
    assert row.left == sum(each.item.rows[-1][-2] == each.item.answer for each in group)
    assert row.above == sum(each.item.rows[-2][-1] == each.item.answer for each in group)
  identity = [each for each in counted if each.item.rule.kind == "identity"]
  assert sum(each.left_is_right + each.above_is_right for each in identity) == len(identity)


def test_the_table_has_a_line_a_row_with_its_interval(counted):
  head, first, *_ = table.as_text(table.by_set(counted, {"identity"})).splitlines()
  assert head.split()[:3] == ["colours", "trained", "on"]
  assert first.split()[:12] == ["B", "plain", "1", "of", "2", "1", "3", "33", "%", "6", "to", "79"]


def test_the_page_shows_every_matrix_and_its_json_every_verdict(counted, tmp_path):
  (tmp_path / "pictures").mkdir()
  (tmp_path / "pictures/099-true.png").write_bytes(b"of an earlier call")
  (tmp_path / "pictures/mine.png").write_bytes(b"not ours")
  file = page.write(tmp_path, counted, title="A <title>", about={"seed": 3}, trained={"identity"})
  text = file.read_text()
  assert "A &lt;title&gt;" in text
  assert (text.count('class="mark-right"'), text.count('class="mark-wrong"')) == (2, 3)
  assert "identity, inverted, trained on" in text
  assert "boolean, never trained on" in text
  named = {f"{i:03d}-{name}.png" for i in range(5) for name in ("given", "completed", "true")}
  assert {each.name for each in (tmp_path / "pictures").iterdir()} == named | {"mine.png"}
  assert all(f'src="pictures/{name}"' in text for name in named)
  assert "http" not in text
  found = json.loads((tmp_path / "raven.json").read_text())
  assert found["seed"] == 3
  assert [each["right"] for each in found["items"]] == [each.verdict.right for each in counted]
  assert found["items"][4]["rule"] == repr(counted[4].item.rule)
  assert found["by_set"][0]["right"]["right"] == 1
  assert (tmp_path / "table.txt").read_text().count("\n") == (1 + 3) + 1 + (1 + 4)


def test_a_place_that_can_t_be_written_is_one_line(counted, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"cannot write the probe to .*/file/out: Not a directory"):
    page.write(tmp_path / "file/out", counted, title="", about={}, trained=None)
