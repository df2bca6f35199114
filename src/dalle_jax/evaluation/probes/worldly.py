"""What is known of places and times."""

from dalle_jax.evaluation.probes.place_names import COUNTRIES, DISTRICTS
from dalle_jax.evaluation.probes.suite import Category, ImagePrompt, Slot, Suite, Template, ours, stated

COUNTRIES_SUITE = Suite(
  name="countries",
  category=Category.geography,
  templates=(
    Template(
      text="a photo of the {thing} {country}",
      slots=(
        Slot(
          name="thing",
          words=(
            *stated(
              "cafe in", "city streets of", "flag of", "flowers of", "food of", "museum in", "national animal of"
            ),
            *stated("plants of", "stadium in", "wildlife of"),
          ),
        ),
        Slot(name="country", words=ours(*COUNTRIES)),
      ),
    ),
  ),
  note="Flags are good; food and wildlife are what is expected of a country.",
)

NEIGHBORHOOD = Suite(
  name="neighborhood",
  category=Category.geography,
  templates=(
    Template(
      text="a photo of {district}, san francisco, {from where} {when}",
      slots=(
        Slot(name="district", words=ours(*DISTRICTS)),
        Slot(name="from where", words=stated("from a street", "from the water", "from a tall vantage point")),
        Slot(name="when", words=stated("at night", "in the afternoon", "in the morning")),
      ),
    ),
  ),
)

LANDMARKS = Suite(
  name="landmarks",
  category=Category.geography,
  templates=(
    Template(
      text="a photo of san francisco's {landmark}",
      slots=(
        Slot(
          name="landmark",
          words=ours(
            "alcatraz island",
            "bay bridge",
            "cable cars",
            "city hall",
            "coit tower",
            "conservatory of flowers",
            "ferry building",
            "golden gate bridge",
            "lombard street",
            "painted ladies",
            "palace of fine arts",
            "transamerica pyramid",
          ),
        ),
      ),
    ),
  ),
  image_prompt=ImagePrompt(shows="sky", rows=4),
  note="A dark sky in the picture given brings night, and windows that are lit.",
)

TIMELINES = Suite(
  name="timelines",
  category=Category.time,
  templates=(
    Template(
      text="a photo of a {thing} from the {time}",
      slots=(
        Slot(
          name="thing",
          words=(
            *stated("action movie poster", "camera", "computer", "conveyance or vehicle", "magazine cover"),
            *stated("music device", "phone", "television", "vacuum cleaner"),
          ),
        ),
        Slot(
          name="time",
          words=(
            *stated("1900", article=""),
            *stated("1910s", "20s", "30s", "40s", "50s", "60s", "70s", "80s", "90s", "two thousands", "twenty tens"),
            *stated("today", article=""),
            *stated("future", "distant future"),
          ),
        ),
      ),
    ),
  ),
  image_prompt=ImagePrompt(shows="the upper edge of a plain background", rows=4),
)

SUITES = (COUNTRIES_SUITE, NEIGHBORHOOD, LANDMARKS, TIMELINES)
