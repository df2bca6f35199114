"""What the transformer finds of pairs of a picture and a caption, as rows: log-likelihoods, in nats.

    per token       the mean over the tokens of a kind: text, text without pads, image; what training reports as losses
    per dimension   the image tokens' nats over the picture's height x width x 3 numbers; in bits it is over ln 2

A dimension's nats are those of the codes alone. What the dVAE loses of the picture is not in them, so they are not the
bits per dimension of models of pixels.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """One pair. Log-likelihoods (not above 0) of all tokens of a kind; dimensions: numbers in the picture's pixels.

  image_no_caption: of the same codes after a caption of pads alone; map: the heat map's file, "" without one.
  """

  file: str
  caption: str
  tokens: int
  words: int
  codes: int
  dimensions: int
  text: float
  text_no_pads: float
  image: float
  image_no_caption: float
  map: str = ""

  @property
  def information(self) -> float:
    """ln p(picture | caption) - ln p(picture): what the caption tells of the picture, nats."""
    return self.image - self.image_no_caption

  def measures(self) -> dict[str, float]:
    """What is told of a pair, by the name of its column."""
    per_dimension = -self.image / self.dimensions
    return {
      "text_nats_per_token": -self.text / self.tokens,
      "text_no_pads_nats_per_token": -self.text_no_pads / self.words,
      "image_nats_per_token": -self.image / self.codes,
      "image_nats_per_dimension": per_dimension,
      "image_bits_per_dimension": per_dimension / math.log(2),
      "text_log_likelihood": self.text,
      "text_no_pads_log_likelihood": self.text_no_pads,
      "image_log_likelihood": self.image,
      "image_log_likelihood_no_caption": self.image_no_caption,
      "information": self.information,
    }


def mean(scores: Sequence[Score]) -> dict[str, float]:
  """The mean over pairs of every measure, but that without pads over all tokens that are none."""
  rows = [score.measures() for score in scores]
  found = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
  words = sum(score.words for score in scores)
  return found | {"text_no_pads_nats_per_token": -sum(score.text_no_pads for score in scores) / words}


def as_tsv(scores: Sequence[Score]) -> str:
  """A first line of names, then a line for each pair; spaces of captions are single, so that no tab is in them."""
  text = io.StringIO()
  rows = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
  rows.writerow(["file", "caption", "words", *scores[0].measures(), "map"])
  for score in scores:
    numbers = [f"{value:.6g}" for value in score.measures().values()]
    rows.writerow([score.file, " ".join(score.caption.split()), score.words, *numbers, score.map])
  return text.getvalue()
