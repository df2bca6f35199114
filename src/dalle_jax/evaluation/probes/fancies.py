"""Unrelated concepts put together, and animals that do what animals don't."""

from dalle_jax.evaluation.probes.suite import Category, Slot, Suite, Template, ours, stated

ANIMALS = ours(
  "cat", "dog", "elephant", "lion", "octopus", "owl", "panda", "rabbit", "shark", "snail", "turtle", "wolf"
)

ANIMAL_CONCEPT_TRANSFER = Suite(
  name="animal_concept_transfer",
  category=Category.unrelated_concepts,
  templates=(
    Template(
      text="a {animal} made of {thing}. a {animal} with the texture of a {thing}.",
      slots=(
        Slot(
          name="animal",
          words=ours("cat", "elephant", "giraffe", "hedgehog", "octopus", "penguin", "snail", "tapir", "whale"),
        ),
        Slot(
          name="thing",
          words=(
            *ours("accordion", "acorn", "almond", "artichoke", "avocado", "balloon", "banana", "bookshelf", "brick"),
            *ours("cabbage", "cactus", "calculator", "candle", "carpet", "carrot", "cathedral", "cello", "chandelier"),
            *ours("chessboard", "clock", "cloud", "cucumber", "drum", "eggplant", "faucet", "feather", "fern", "flute"),
            *ours("garlic bulb", "guitar", "hammer", "harp", "harmonica", "honeycomb", "keyboard", "kiwi fruit"),
            *ours(
              "lantern", "lemon", "lettuce", "lotus flower", "mango", "maple leaf", "mirror", "mushroom", "newspaper"
            ),
            *ours(
              "onion", "orange", "origami crane", "paintbrush", "pancake", "peach", "peacock", "piano", "pine cone"
            ),
            *ours("pineapple", "pinwheel", "pumpkin", "puzzle", "quilt", "rope", "rose", "saxophone", "seashell"),
            *ours("snowflake", "spoon", "strawberry", "sunflower", "teapot", "toaster", "tomato", "trumpet", "tulip"),
            *ours("typewriter", "umbrella", "vase", "violin", "waffle", "walnut", "watermelon", "zipper"),
            *ours("chocolate", "moss", "spaghetti", "tinsel", "wool", article=""),
          ),
        ),
      ),
    ),
  ),
  note="Where it fails, the animal and the thing are drawn as two.",
)

PRODUCT_DESIGN = Suite(
  name="product_design",
  category=Category.unrelated_concepts,
  templates=(
    Template(
      text="an {object} in the {way} of an {thing}. an {object} imitating an {thing}.",
      slots=(
        Slot(
          name="object",
          words=(
            *ours(
              "armchair", "backpack", "bowl", "clock", "coffee table", "handbag", "lamp", "radio", "shoe", "teapot"
            ),
            *ours("umbrella"),
          ),
        ),
        Slot(name="way", words=stated("shape", "form", "style")),
        Slot(
          name="thing",
          words=(
            *ours("acorn", "artichoke", "avocado", "banana", "beetle", "butterfly", "cabbage", "cupcake", "honeycomb"),
            *ours("lotus", "mushroom", "octopus", "orange", "peach", "pineapple", "rubik's cube", "seashell", "snail"),
            *ours("strawberry"),
          ),
        ),
      ),
    ),
  ),
)

ANTHROPOMORPHISM = Suite(
  name="anthropomorphism",
  category=Category.animals,
  templates=(
    Template(
      text="an illustration of {subject} {outfit} {activity}",
      slots=(
        Slot(
          name="subject",
          words=(
            *stated("a baby daikon radish"),
            *ours("a baby capybara", "a baby fox", "a baby hedgehog", "a baby owl", "a baby panda", "a baby penguin"),
            *ours("a baby shark", "a baby snail", "a banana", "a cucumber", "a pear", "a pineapple", "a pumpkin"),
            *ours("a strawberry", "a teapot", "a toaster", "an avocado"),
          ),
        ),
        Slot(
          name="outfit",
          words=(
            *stated("in a tutu"),
            *ours("in a bathrobe", "in a cape", "in a raincoat", "in a space suit", "in a suit", "in a sweater"),
            *ours("in pajamas", "with a bow tie", "with a mustache", "with headphones", "with sunglasses"),
          ),
        ),
        Slot(
          name="activity",
          words=(
            *stated("walking a dog"),
            *ours("baking a cake", "blowing bubbles", "climbing a tree", "dancing", "drinking tea", "flying a kite"),
            *ours("juggling", "painting a picture", "playing chess", "playing the guitar", "reading a book"),
            *ours("riding a bicycle", "riding a wave", "rowing a boat", "sitting on a swing", "sleeping in a hammock"),
            *ours("taking a photo", "telling a story", "typing on a laptop", "watering flowers"),
          ),
        ),
      ),
    ),
  ),
)

ANIMAL_CHIMERAS = Suite(
  name="animal_chimeras",
  category=Category.animals,
  templates=(
    Template(
      text=(
        "a professional high quality {picture} of a {animal} {other animal} chimera. a {animal} imitating a "
        "{other animal}. a {animal} made of {other animal}."
      ),
      slots=(
        Slot(name="picture", words=stated("illustration", "emoji")),
        Slot(name="animal", words=ANIMALS),
        Slot(name="other animal", words=ANIMALS),
      ),
      distinct=("animal", "other animal"),
    ),
  ),
  note="The second animal prevails.",
)

EMOJIS = Suite(
  name="emojis",
  category=Category.animals,
  templates=(
    Template(
      text="a professional high quality emoji of a {mood} {subject}",
      slots=(
        Slot(
          name="mood",
          words=(
            *ours("angry", "bored", "confused", "happy", "hungry", "lovestruck", "proud", "sad", "scared", "sleepy"),
            *ours("surprised"),
          ),
        ),
        Slot(
          name="subject",
          words=(
            *ours("alien", "avocado", "bear", "cactus", "camel", "cat", "cloud", "cow", "crab", "cup of tea", "dog"),
            *ours("dragon", "duck", "eggplant", "fox", "frog", "ghost", "hedgehog", "koala", "lemon", "lion", "monkey"),
            *ours("moon", "mushroom", "octopus", "owl", "panda", "penguin", "pig", "pumpkin", "robot", "snail"),
            *ours("snowman", "sun", "tiger", "whale"),
          ),
        ),
      ),
    ),
  ),
)

SUITES = (ANIMAL_CONCEPT_TRANSFER, PRODUCT_DESIGN, ANTHROPOMORPHISM, ANIMAL_CHIMERAS, EMOJIS)
