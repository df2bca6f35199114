"""Perspective, three dimensions, and what is inside or close by."""

from dalle_jax.evaluation.probes.suite import Category, ImagePrompt, Slot, Suite, Template, Word, ours, stated

ANIMAL = Slot(name="animal", words=(*stated("capybara"), *ours("cougar", "fox", "owl", "turtle")))
PLACE = Slot(name="place", words=(*stated("field"), *ours("forest", "river", "street")))

CAMERA_ANGLES = Suite(
  name="camera_angles",
  category=Category.perspective,
  templates=(
    Template(
      text="a {view} view of a {animal} sitting in a {place}",
      slots=(
        Slot(
          name="view",
          words=(
            *stated("extreme close-up", "aerial", "rear", "fisheye", "spherical panorama"),
            *ours("close-up", "front", "side", "ground-level", "wide-angle"),
          ),
        ),
        ANIMAL,
        PLACE,
      ),
    ),
  ),
)

THREE_D_VIEWS = Suite(
  name="three_d_views",
  category=Category.perspective,
  templates=(
    Template(
      text="a {animal} made of {pieces} sitting in a {place}",
      slots=(
        ANIMAL,
        Slot(name="pieces", words=(*stated("voxels"), *ours("clay", "marble", "polygons", "wire"))),
        PLACE,
      ),
    ),
    Template(
      text="a {rendering} of a {animal} sitting in a {place}",
      slots=(
        Slot(name="rendering", words=(*stated("claymation", "x-ray"), *ours("blueprint", "hologram", "scale model"))),
        ANIMAL,
        PLACE,
      ),
      ours=True,
    ),
  ),
)

ROTATING_HEAD = Suite(
  name="rotating_head",
  category=Category.perspective,
  templates=(
    Template(
      text="a photograph of a bust of {head}",
      slots=(
        Slot(
          name="head",
          words=stated(
            "alexander the great",
            "aristotle",
            "athena",
            "cleopatra",
            "homer",
            "medusa",
            "plato",
            "socrates",
            "venus",
          ),
        ),
      ),
    ),
  ),
  image_prompt=ImagePrompt(shows="the top of a head with a hat, at some angle", rows=10),
  note="One draw for each angle of the hat in the picture given makes the head turn smoothly.",
)

ROTATING_MIRROR = Suite(
  name="rotating_mirror",
  category=Category.perspective,
  templates=(
    Template(
      text="a {thing} looking at its own reflection in a mirror. a {thing} gazing at itself in a mirror.",
      slots=(
        Slot(
          name="thing",
          words=stated(
            "plain white cube",
            "cat",
            "golden retriever",
            "rubik's cube",
            "statue of david",
            "tennis ball",
            "white teapot",
          ),
        ),
      ),
    ),
  ),
  image_prompt=ImagePrompt(shows="the upper part of a room with a mirror", rows=12),
)

CROSS_SECTIONS = Suite(
  name="cross_sections",
  category=Category.structure,
  templates=(
    Template(
      text="a cross-section view of a {thing}",
      slots=(
        Slot(
          name="thing",
          words=(
            *stated("walnut", "airplane", "beehive", "brain", "car"),
            Word(text="earth", article="the"),
            *stated("engine", "geode", "heart"),
            *ours("ant hill", "camera", "mountain", "onion", "pomegranate", "seashell", "submarine", "tree", "volcano"),
          ),
        ),
      ),
    ),
  ),
)

MACRO_PHOTOS = Suite(
  name="macro_photos",
  category=Category.structure,
  templates=(
    Template(
      text="a macro photograph of {thing}",
      slots=(
        Slot(
          name="thing",
          words=(
            *stated("brain coral"),
            *ours("an ant", "a bee", "a butterfly wing", "a cactus", "a caterpillar", "a circuit board", "a dandelion"),
            *ours("a dragonfly", "a feather", "frost", "a human eye", "a leaf", "moss", "a mushroom", "a snowflake"),
            *ours("soap bubbles", "a spider", "velvet"),
          ),
        ),
      ),
    ),
  ),
)

SUITES = (CAMERA_ANGLES, THREE_D_VIEWS, ROTATING_HEAD, ROTATING_MIRROR, CROSS_SECTIONS, MACRO_PHOTOS)
