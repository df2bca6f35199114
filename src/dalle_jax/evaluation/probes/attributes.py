"""Controlling attributes, and binding them to several objects (paper.md of the blog's first two headings)."""

from dalle_jax.evaluation.probes.suite import Category, Slot, Suite, Template, Word, ours, stated

COLOURS = stated("red", "green", "blue", "yellow")

SHAPE = Suite(
  name="shape",
  category=Category.controlling_attributes,
  templates=(
    Template(
      text="a {shape:adjective} {colour} {object}. a {colour} {object} in the shape of a {shape}.",
      slots=(
        Slot(
          name="shape",
          words=(
            Word(text="pentagon", adjective="pentagonal"),
            Word(text="heptagon", adjective="heptagonal"),
            Word(text="triangle", adjective="triangular", ours=True),
            Word(text="square", adjective="square", ours=True),
            Word(text="hexagon", adjective="hexagonal", ours=True),
            Word(text="octagon", adjective="octagonal", ours=True),
          ),
        ),
        Slot(name="colour", words=(*stated("green"), *ours("black", "blue", "orange", "red", "white", "yellow"))),
        Slot(
          name="object",
          words=(
            *stated("clock", "frame", "plate", "manhole cover", "stop sign"),
            *ours("lunch box", "pizza", "table", "window"),
          ),
        ),
      ),
    ),
  ),
  note="Frames and plates work as every polygon but the heptagon; manhole covers and stop signs are weak as pentagons.",
)

MATERIAL = Suite(
  name="material",
  category=Category.controlling_attributes,
  templates=(
    Template(
      text="a {object} made of {material}. a {object} with the texture of a {material}.",
      slots=(
        Slot(name="object", words=(*stated("cube"), *ours("cone", "cup", "pyramid", "sphere", "teapot"))),
        Slot(
          name="material",
          words=(
            *stated("porcupine"),
            *ours("brick", "cactus", "honeycomb", "pine cone", "strawberry", "watermelon"),
            *ours("bamboo", "glass", "gold", "ice", "leather", "marble", "moss", "rusty metal", "sand", article=""),
          ),
        ),
      ),
    ),
  ),
)

MULTIPLE_COPIES = Suite(
  name="multiple_copies",
  category=Category.controlling_attributes,
  templates=(
    Template(
      text="a {copies} of {things} is sitting on a {surface}",
      slots=(
        Slot(name="copies", words=(*stated("collection"), *ours("pair", "trio", "row", "pile"))),
        Slot(
          name="things",
          words=(*stated("glasses"), *ours("apples", "bats", "bows", "clocks", "cubes", "keys", "teapots", "trunks")),
        ),
        Slot(name="surface", words=(*stated("table"), *ours("bench", "carpet", "shelf"))),
      ),
    ),
  ),
  note="It does not count reliably past three. Words of two meanings, such as glasses, are drawn in both.",
)

RELATIVE_POSITIONS = Suite(
  name="relative_positions",
  category=Category.multiple_objects,
  templates=(
    Template(
      text="a {size} {colour} block {relation} a {other size} {other colour} block",
      slots=(
        Slot(name="size", words=stated("small", "large")),
        Slot(name="colour", words=COLOURS),
        Slot(
          name="relation",
          words=stated(
            "sitting on",
            "standing in front of",
            "sitting below",
            "standing behind",
            "standing left of",
            "standing right of",
          ),
        ),
        Slot(name="other size", words=stated("large", "small")),
        Slot(name="other colour", words=COLOURS),
      ),
      distinct=("colour", "other colour"),
    ),
  ),
  note=(
    "Sitting on and standing in front of come out sometimes; sitting below, and standing behind, left or right of, do "
    "not. A large block on a small one is harder than the other way round."
  ),
)

STACKING_SNAP = Suite(
  name="stacking_snap",
  category=Category.multiple_objects,
  templates=(
    Template(
      text=(
        "a stack of 3 cubes. a {top} cube is on the top, sitting on a {middle} cube. the {middle} cube is in the "
        "middle, sitting on a {bottom} cube. the {bottom} cube is on the bottom."
      ),
      slots=(Slot(name="top", words=COLOURS), Slot(name="middle", words=COLOURS), Slot(name="bottom", words=COLOURS)),
      distinct=("top", "middle", "bottom"),
    ),
  ),
  note="One or two of the three colours are usually right.",
)

MULTIPLE_ATTRIBUTES = Suite(
  name="multiple_attributes",
  category=Category.multiple_objects,
  templates=(
    Template(
      text=("an emoji of a baby {animal} wearing a {hat} hat, {gloves} gloves, {shirt} shirt, and {pants} pants"),
      slots=(
        Slot(name="animal", words=(*stated("penguin"), *ours("fox", "owl", "panda"))),
        Slot(name="hat", words=COLOURS),
        Slot(name="gloves", words=COLOURS),
        Slot(name="shirt", words=COLOURS),
        Slot(name="pants", words=COLOURS),
      ),
    ),
  ),
  note=(
    "Two or three of the four pieces are usually right. The more objects there are, the more they take each other's "
    "attributes, and other wordings give other answers."
  ),
)

SUITES = (SHAPE, MATERIAL, MULTIPLE_COPIES, RELATIVE_POSITIONS, STACKING_SNAP, MULTIPLE_ATTRIBUTES)
