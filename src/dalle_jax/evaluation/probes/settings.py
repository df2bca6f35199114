"""Contextual details: where and when, on what, and with which word written on it."""

from dalle_jax.evaluation.probes.suite import Category, Slot, Suite, Template, ours, stated

LOCATION_AND_SETTING = Suite(
  name="location_and_setting",
  category=Category.context,
  templates=(
    Template(
      text="a {style} of a {animal} sitting {place} {time}",
      slots=(
        Slot(
          name="style",
          words=(
            *stated("painting"),
            *ours("cartoon", "charcoal drawing", "collage", "crayon drawing", "cubist painting", "drawing", "etching"),
            *ours("fresco", "linocut", "low poly rendering", "mosaic", "oil painting", "pastel drawing", "photo"),
            *ours("pixel art picture", "pop art print", "sketch", "watercolor", "woodcut"),
          ),
        ),
        Slot(name="animal", words=stated("capybara", "cougar", "eagle", "fox", "owl", "pangolin", "turtle")),
        Slot(name="place", words=stated("in a field", "in a forest", "on a mountain")),
        Slot(
          name="time",
          words=ours(
            "at dawn",
            "at sunrise",
            "in the morning",
            "at noon",
            "in the afternoon",
            "at sunset",
            "at dusk",
            "at night",
            "in spring",
            "in summer",
            "in autumn",
            "in winter",
          ),
        ),
      ),
    ),
  ),
)

UNUSUAL_MEDIA = Suite(
  name="unusual_media",
  category=Category.context,
  templates=(
    Template(
      text="a {medium} with an image of a {colour} {food}",
      slots=(
        Slot(
          name="medium",
          words=(
            *stated("stained glass window"),
            *ours("baseball cap", "billboard", "cake", "carpet", "ceramic tile", "coffee mug", "coin", "curtain"),
            *ours("door", "flag", "hot air balloon", "kite", "lantern", "lunch box", "neon sign", "pancake", "pillow"),
            *ours("playing card", "postage stamp", "quilt", "skateboard", "surfboard", "t-shirt", "tattoo", "umbrella"),
            *ours("vase"),
          ),
        ),
        Slot(name="colour", words=stated("black", "blue", "magenta", "pink", "white")),
        Slot(
          name="food",
          words=ours(
            "apple",
            "banana",
            "broccoli",
            "carrot",
            "mushroom",
            "onion",
            "pear",
            "pineapple",
            "pumpkin",
            "strawberry",
          ),
        ),
      ),
    ),
  ),
)

TEXT_RENDERING = Suite(
  name="text_rendering",
  category=Category.context,
  templates=(
    Template(
      text=" ".join(["a {carrier} that has the word '{word}' written on it."] * 3) + " {word} {carrier}.",
      slots=(
        Slot(
          name="carrier",
          words=(
            *stated("store front"),
            *ours("birthday cake", "blackboard", "book cover", "bumper sticker", "cereal box", "license plate"),
            *ours("mug", "neon sign", "newspaper", "poster", "road sign", "t-shirt", "tattoo", "van"),
          ),
        ),
        Slot(
          name="word",
          words=stated(
            "agi",
            "gpt",
            "sgd",
            "acme",
            "clip",
            "dall-e",
            "openai",
            "skynet",
            "hogwash",
            "pytorch",
            "backprop",
            "meatloaf",
            "peekaboo",
          ),
        ),
      ),
    ),
  ),
)

SUITES = (LOCATION_AND_SETTING, UNUSUAL_MEDIA, TEXT_RENDERING)
