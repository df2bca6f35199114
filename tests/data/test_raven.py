"""Raven's matrices: rules that leave one answer, panels that can be told apart and lie on codes, and the data set."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.raven import drawing, items, panels, rules, source
from dalle_jax.errors import UserError

SMALL, PAPER = items.Layout(image=48, grid=12), items.Layout(image=256, grid=32)
NAMES = [kind.kind for kind in rules.KINDS]
kinds = pytest.mark.parametrize("kind", rules.KINDS, ids=NAMES)


def matrices(kind, count, layout=SMALL, seed=0):
  return items.draw_many(kind, count, layout, seed=seed)


def test_sets_and_kinds_are_those_of_the_issue_and_half_are_trained_on():
  assert {kind.letter: [each.kind for each in rules.KINDS if each.letter == kind.letter] for kind in rules.KINDS} == {
    "B": ["identity", "turning"],
    "C": ["progression", "addition"],
    "D": ["permutation"],
    "E": ["boolean"],
  }
  assert rules.SETS == ("B", "C", "D", "E")
  assert 2 * len(rules.TRAINED) == len(rules.KINDS)


@kinds
def test_the_rule_leaves_the_answer_alone(kind):
  for item in matrices(kind, 40):
    assert rules.solve(item.rule, item.rows) == [item.answer]


@kinds
def test_every_panel_of_a_matrix_counts_for_its_rule(kind):
  """Another panel anywhere breaks it; of "and", strokes of the first two may change that are not in both."""
  some = range(kind.side - 1, kind.side) if kind is rules.Boolean else range(kind.side)
  for item in matrices(kind, 10):
    for row in some:
      for column in some:
        other = next(each for each in panels.alphabet(item.answer) if each != item.rows[row][column])
        changed = [list(line) for line in item.rows]
        changed[row][column] = other
        assert not item.rule.holds(tuple(map(tuple, changed)))


@kinds
def test_a_kind_has_many_matrices_and_more_go_on_from_fewer(kind):
  many = matrices(kind, 80)
  assert len({item.rows for item in many}) == 80
  assert matrices(kind, 5) == many[:5]
  assert matrices(kind, 5, seed=1) != many[:5]


def test_rules_of_the_others_are_written_out():
  a, b, c = (panels.Strokes(parts=parts) for parts in (0b0011, 0b0110, 0b1000))
  of = lambda parts: panels.Strokes(parts=parts)  # noqa: E731
  rows = rules.Along.ROWS
  for operation, parts in ((rules.Operation.AND, 0b0010), (rules.Operation.OR, 0b0111), (rules.Operation.XOR, 0b0101)):
    line = ((a, b, of(parts)),)
    for other in rules.Operation:
      assert rules.Boolean(along=rows, operation=other).holds(line) == (other is operation)
  assert rules.Addition(along=rows).holds(((a, c, of(0b1011)),))
  assert not rules.Addition(along=rows).holds(((a, b, of(0b0111)),))  # they share a stroke
  assert rules.Identity(along=rules.Along.COLUMNS).holds(((a, b), (a, b)))
  assert not rules.Identity(along=rows).holds(((a, b), (a, b)))
  assert rules.Permutation().holds(((a, b, c), (b, c, a), (c, a, b)))
  assert not rules.Permutation().holds(((a, b, c), (a, b, c), (a, b, c)))


@pytest.mark.parametrize("turn", range(1, 8))
def test_a_turn_is_what_numpy_makes_of_the_pixels(turn):
  of_square = [lambda x, k=k, f=f: np.rot90(x.T if f else x, k) for f in (False, True) for k in range(4)]
  found = set()
  for glyph in panels.turning_glyphs():
    before = drawing.panel(glyph, 64)[:, :, 0].astype(int)
    after = drawing.panel(panels.turned(glyph, turn), 64)[:, :, 0].astype(int)
    errors = [np.abs(each(before) - after).mean() for each in of_square]
    assert min(errors) < 1.5 < sorted(errors)[1]
    found.add(int(np.argmin(errors)))
  assert len(found) == 1
  assert found != {0}


@pytest.mark.parametrize("side", [items.LEAST_PIXELS, 21, 80])
@pytest.mark.parametrize("family", [panels.glyphs(), panels.all_strokes()], ids=["glyphs", "strokes"])
def test_any_two_panels_of_an_alphabet_can_be_told_apart(side, family):
  seen_PX = np.stack([drawing.panel(each, side)[:, :, 0].reshape(-1) for each in family]).astype(np.float32) / 255
  squares_P = np.square(seen_PX).sum(1)
  apart_PP = np.sqrt(np.maximum(squares_P[:, None] + squares_P[None] - 2 * seen_PX @ seen_PX.T, 0) / side**2)
  ink_P = np.sqrt(np.square(1 - seen_PX).mean(1))
  np.fill_diagonal(apart_PP, np.inf)
  assert (apart_PP / ink_P[:, None]).min() > 0.15
  assert len(set(family)) == len(family)


@pytest.mark.parametrize("layout", [SMALL, PAPER, items.Layout(image=64, grid=16)], ids=["48", "256", "64"])
@kinds
def test_panels_lie_on_codes_and_the_corner_is_a_rectangle_of_them(kind, layout):
  (item,) = matrices(kind, 1, layout)
  top, left, bottom, right = item.region
  assert bottom - top == right - left == layout.grid // 3
  assert max(bottom, right) <= layout.grid
  whole, without, scale = item.pixels(), item.unsolved(), layout.image // layout.grid
  differs_SS = (whole != without).any(2)
  assert differs_SS.any()
  differs_SS[scale * top : scale * bottom, scale * left : scale * right] = False
  assert not differs_SS.any()
  assert (item.cut(whole) == drawing.panel(item.answer, layout.pixels)).all()
  assert (item.cut(without) == 255).all()
  assert item.region[:2] == layout.corner(3, 2, 2)  # the same in matrices of 2x2 and of 3x3 panels
  assert layout.corner(kind.side, 0, 0) == layout.corner(3, 3 - kind.side, 3 - kind.side)
  assert layout.corner(3, 0, 0) == ((layout.grid - 3 * layout.codes) // 2,) * 2


@kinds
def test_inverted_colours_are_exactly_255_minus_the_others(kind):
  rng = random.Random(0)
  item = items.draw(kind, rng, SMALL)
  inverted = items.Item(rule=item.rule, rows=item.rows, layout=SMALL, inverted=True)
  assert (inverted.pixels() == 255 - item.pixels()).all()
  assert (inverted.unsolved() == 255 - item.unsolved()).all()


def test_the_matrices_of_the_probe_are_never_in_the_data():
  for kind in rules.TRAINED:
    rng = random.Random(0)
    shown = [items.draw(kind, rng, SMALL).rows for _ in range(300)]
    assert not any(map(items.reserved, shown))
    assert all(items.reserved(item.rows) for item in matrices(kind, 20))


def test_more_matrices_than_there_are_is_one_line():
  with pytest.raises(UserError, match=r"got 5000 matrices of progression to draw, of which there are only \d+"):
    matrices(rules.Progression, 5000)


@pytest.mark.parametrize(
  ("image", "grid", "says"),
  [
    (32, 8, "pictures of 32 pixels and 8x8 codes don't divide into panels of a matrix: a third of a side is 2 codes"),
    (256, 4, "a third of a side is 1 codes and 64 pixels, wanted 2 and 16 or more"),
    (50, 12, "got pictures of 50 pixels for 12 codes a side, wanted a multiple of it"),
  ],
)
def test_a_picture_that_holds_no_matrix_is_refused_in_one_line(image, grid, says):
  with pytest.raises(UserError, match=says) as info:
    items.Layout(image=image, grid=grid)
  assert "\n" not in str(info.value)


# The data set.


def test_an_example_is_a_solved_matrix_of_a_trained_kind_with_the_blog_s_caption():
  config = source.Config(train=3, inverted=0.5)
  examples = list(source.Matrices(config).examples("train"))
  assert [each.captions for each in examples] == [("a sequence of geometric shapes.",)] * 3
  picture = np.asarray(Image.open(io.BytesIO(examples[0].image)))
  assert picture.shape == (48, 48, 3)
  assert list(source.Matrices(source.Config(train=2, inverted=0.5)).examples("train")) == examples[:2]
  assert source.make_example(config, "valid", 0).image != examples[0].image
  assert source.make_example(source.Config(seed=1), "train", 0).image != examples[0].image


@pytest.mark.parametrize(("inverted", "dark"), [(0.0, 0), (1.0, 30)])
def test_the_share_that_is_white_on_black_is_as_asked_for(inverted, dark):
  config = source.Config(train=30, inverted=inverted)
  pictures = [np.asarray(Image.open(io.BytesIO(each.image))) for each in source.Matrices(config).examples("train")]
  assert sum(picture[0, 0, 0] < 128 for picture in pictures) == dark


@pytest.mark.parametrize(
  ("field", "value", "says"),
  [("train", 0, "got train=0 for raven"), ("inverted", 1.5, "got inverted=1.5 for raven"), ("grid", 5, "multiple")],
)
def test_settings_that_can_t_be_are_refused(field, value, says):
  with pytest.raises(UserError, match=says):
    source.Config(**{field: value})


def test_it_is_written_as_a_prepared_data_set(tmp_path):
  prepare.prepare(source.Matrices(source.Config(train=6, valid=2)), tmp_path / "out")
  prepared = open_prepared(tmp_path / "out")
  assert (prepared.name, prepared.splits) == ("raven", ("train", "valid"))
  example = prepared.source("train")[0]
  assert example["captions"] == [items.CAPTION]
  assert example["image"].shape == (48, 48, 3)
