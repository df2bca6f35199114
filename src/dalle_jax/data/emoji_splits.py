"""Which emoji are held out: for each profession one skin tone, never seen together in training.

A profession is a person (of any gender), a skin tone, and an object. The i-th profession of the list is held out in
tone i mod 5, for all three persons; so training shows each profession in four tones, and each tone in at least twelve
professions.
"""

SPLITS = ("train", "held_out")
PERSONS = ("🧑", "👨", "👩")
TONES = ("🏻", "🏼", "🏽", "🏾", "🏿")
JOINER = "\u200d"
SELECTOR = "\ufe0f"
PROFESSIONS = (
  "⚕",  # health worker
  "🎓",  # student
  "🏫",  # teacher
  "⚖",  # judge
  "🌾",  # farmer
  "🍳",  # cook
  "🔧",  # mechanic
  "🏭",  # factory worker
  "💼",  # office worker
  "🔬",  # scientist
  "💻",  # technologist
  "🎤",  # singer
  "🎨",  # artist
  "✈",  # pilot
  "🚀",  # astronaut
  "🚒",  # firefighter
)
HELD_OUT = frozenset(
  person + TONES[i % len(TONES)] + JOINER + object_ for i, object_ in enumerate(PROFESSIONS) for person in PERSONS
)


def split(text: str) -> str:
  """Where the emoji belongs: "train" or "held_out"."""
  return "held_out" if text.replace(SELECTOR, "") in HELD_OUT else "train"
