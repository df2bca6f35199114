"""Applications: what people wear and how rooms are furnished, below the top of a picture that is given."""

from dalle_jax.evaluation.probes.suite import Category, ImagePrompt, Slot, Suite, Template, ours, stated

COLOURS = (*stated("navy", "olive"), *ours("black", "gold", "grey", "orange", "purple", "red", "white"))
MANNEQUIN = ImagePrompt(shows="the head and shoulders of a mannequin", rows=8)
ROOM = ImagePrompt(shows="the upper part of a room", rows=8)
CONFUSED = "Navy and olive are taken for colours near them."


def _fashion(name: str, mannequin: str, garments: tuple[str, ...], below: tuple[str, ...]) -> Suite:
  template = Template(
    text=f"a {mannequin} mannequin dressed in a {{colour}} {{garment}} and {{other colour}} {{below}}",
    slots=(
      Slot(name="colour", words=COLOURS),
      Slot(name="garment", words=ours(*garments)),
      Slot(name="other colour", words=COLOURS),
      Slot(name="below", words=ours(*below)),
    ),
    ours=True,
  )
  return Suite(name=name, category=Category.applications, templates=(template,), image_prompt=MANNEQUIN, note=CONFUSED)


MALE_FASHION_DESIGN = _fashion(
  "male_fashion_design",
  "male",
  ("flannel shirt", "hoodie", "leather jacket", "sweater", "turtleneck"),
  ("jeans", "shorts", "sweatpants", "trousers"),
)

FEMALE_FASHION_DESIGN = _fashion(
  "female_fashion_design",
  "female",
  ("blouse", "cardigan", "leather jacket", "sweater", "t-shirt"),
  ("jeans", "leggings", "trousers", "pleated skirt", "denim skirt"),
)

LIVING_ROOM_DESIGN = Suite(
  name="living_room_design",
  category=Category.applications,
  templates=(
    Template(
      text="a living room with two {colour} armchairs and a painting of {subject}. the painting is mounted {where}.",
      slots=(
        Slot(name="colour", words=ours("beige", "black", "blue", "green", "olive", "red", "white")),
        Slot(
          name="subject",
          words=ours("a capybara", "a lighthouse", "a sailing ship", "mount fuji", "the colosseum", "two pears"),
        ),
        Slot(name="where", words=ours("above a fireplace", "above a coffee table", "between two windows")),
      ),
    ),
  ),
  image_prompt=ROOM,
  note="The fireplace, or one of the armchairs, is sometimes missing.",
)

BEDROOM_DESIGN = Suite(
  name="bedroom_design",
  category=Category.applications,
  templates=(
    Template(
      text=("a loft bedroom with a {colour} bed next to a {furniture}. there is a {thing} standing beside the bed."),
      slots=(
        Slot(name="colour", words=ours("black", "blue", "brown", "green", "pink", "red", "white", "yellow")),
        Slot(name="furniture", words=stated("nightstand", "shelf")),
        Slot(name="thing", words=ours("bicycle", "cactus", "fish tank", "floor lamp", "guitar", "ladder", "sculpture")),
      ),
    ),
  ),
  image_prompt=ROOM,
)

SUITES = (MALE_FASHION_DESIGN, FEMALE_FASHION_DESIGN, LIVING_ROOM_DESIGN, BEDROOM_DESIGN)
