"""Zero-shot visual reasoning: the upper half of the picture is given, the lower half is what the caption asks for."""

from dalle_jax.evaluation.probes.suite import Category, ImagePrompt, Slot, Suite, Template, ours, stated

CAT = Slot(name="subject", words=(*stated("cat"), *ours("dog", "bird")))
TEAPOT = Slot(name="object", words=(*stated("teapot"), *ours("cup", "vase")))


def upper_panel(shows: str) -> ImagePrompt:
  """15 of 32 rows of a picture in the upper half (paper 3.3)."""
  return ImagePrompt(shows=shows, rows=15, stated=True, two_panels=True)


IM2IM_ANIMAL = Suite(
  name="im2im_animal",
  category=Category.reasoning,
  templates=(
    Template(
      text="the exact same {subject} on the top {change} on the bottom",
      slots=(
        CAT,
        Slot(
          name="change",
          words=(
            *stated("as a sketch", "in extreme close-up", "coloured pink", "coloured violet", "coloured blue"),
            *stated("with sunglasses", "with headphones", "with a hat", "with a bow tie"),
            *stated("as a postage stamp", "as a greeting card", "as a cell-phone case"),
          ),
        ),
      ),
    ),
    Template(
      text="the exact same photo on the top {operation} on the bottom",
      slots=(
        Slot(
          name="operation",
          words=stated("reflected upside-down", "in grayscale", "coloured pink", "coloured violet", "coloured blue"),
        ),
      ),
    ),
    Template(
      text=("2 panel image of the exact same {subject}. on the top, a photo of the {subject}. on the bottom, {view}"),
      slots=(
        Slot(name="subject", words=stated("cat")),
        Slot(name="view", words=stated("an extreme close-up view of the cat in the photo", "the cat with sunglasses")),
      ),
    ),
  ),
  image_prompt=upper_panel("an animal"),
  note="What changes the whole photo is most reliable; colouring the animal alone is less so.",
)

IM2IM_OBJECT = Suite(
  name="im2im_object",
  category=Category.reasoning,
  templates=(
    Template(
      text="the exact same {object} on the top {change} on the bottom",
      slots=(
        TEAPOT,
        Slot(
          name="change",
          words=(
            *stated("with 'gpt' written on it", "tiny", "broken"),
            *ours("coloured black", "coloured blue", "coloured green", "coloured red", "coloured white"),
            *ours("with blue stripes", "with green stripes", "with red stripes", "with yellow stripes"),
          ),
        ),
      ),
    ),
  ),
  image_prompt=upper_panel("a teapot"),
  note="Tiny and broken are much less reliable than the rest.",
)

SUITES = (IM2IM_ANIMAL, IM2IM_OBJECT)
