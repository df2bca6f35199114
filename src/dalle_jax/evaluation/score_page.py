"""The page of scores: means, matching, and every heat map under its caption; and the same as text for a terminal."""

import html
from collections.abc import Sequence
from typing import Any

from dalle_jax.evaluation import scores
from dalle_jax.evaluation.matching import Matched
from dalle_jax.evaluation.scores import Score
from dalle_jax.sampling import static_page

MEASURED = {
  "text_nats_per_token": "text, nats a token",
  "text_no_pads_nats_per_token": "text without pads, nats a token",
  "image_nats_per_token": "image, nats a token",
  "image_nats_per_dimension": "image codes, nats a pixel dimension",
  "image_bits_per_dimension": "image codes, bits a pixel dimension",
  "information": "what the caption tells of the picture, nats",
}
TOP = (1, 5)


def as_text(told: Sequence[Score], matched: Sequence[Matched]) -> str:
  """The means and the shares matched, a line each."""
  means = scores.mean(told)
  lines = [f"{name:<45} {means[key]:>11.5g}" for key, name in MEASURED.items()]
  for row in matched:
    shares = ", ".join(f"top-{k} {row.top(k)} (chance {100 * row.chance(k):.1f} %)" for k in TOP)
    lines.append(f"{row.direction}, by {row.by}: {shares}, {len(row.ranks_Q)} among {row.candidates}")
  return "\n".join(lines)


def page(told: Sequence[Score], matched: Sequence[Matched], about: dict[str, Any]) -> str:
  """The whole page; files are as `score` writes them beside it."""
  means = scores.mean(told)
  sections = [
    static_page.definition_list(about),
    f"<h2>The mean of {len(told)} pairs</h2>",
    static_page.table(["", "mean"], [[html.escape(name), f"{means[key]:.5g}"] for key, name in MEASURED.items()]),
    '<p class="note">A log-likelihood is not above 0, and nats a token are without its sign: fewer are better. A pixel '
    "dimension is one of height x width x 3; what the dVAE loses of the picture is not in its nats. "
    '<a href="scores.tsv">scores.tsv</a> has every pair.</p>',
    *(_matching(matched) if matched else []),
    "<h2>Where the picture was not expected</h2>",
    '<p class="note">Each code&#39;s negative log-likelihood given the caption and the codes before it, all on one '
    "scale; the blue line is a blind guess.</p>",
    *[_map(score) for score in told if score.map],
  ]
  left = sum(not score.map for score in told)
  return static_page.page("How likely these pictures are", sections + ([_left_out(left)] if left else []))


def _matching(matched: Sequence[Matched]) -> list[str]:
  rows = [
    [
      html.escape(f"{row.direction}, by {row.by}"),
      *(f"{row.top(k)} <small>chance {100 * row.chance(k):.1f} %</small>" for k in TOP),
      f"{len(row.ranks_Q)} among {row.candidates}",
    ]
    for row in matched
  ]
  return [
    "<h2>Every picture with every caption</h2>",
    static_page.table(["", *(f"top-{k}" for k in TOP), "asked"], rows),
    '<p class="note">Likelihood: of the picture given the caption. Difference: what of it is above that of the picture '
    "without a caption. Bayes&#39; rule: the caption&#39;s probability given the picture, among these captions. From a "
    "picture to captions all three give the same order. "
    '<a href="retrieval.tsv">retrieval.tsv</a> has every likelihood.</p>',
    '<img class="plot" src="retrieval.png" width="560" alt="every picture with every caption">',
  ]


def _map(score: Score) -> str:
  measured = score.measures()
  return (
    f"<h3>{html.escape(score.caption)}</h3>\n"
    f'<figure><img class="plot" src="{html.escape(score.map)}" width="640" alt="{html.escape(score.file)}"></figure>\n'
    f'<p class="note">{html.escape(score.file)}: {measured["image_nats_per_token"]:.4g} nats a code, '
    f"{score.information:+.4g} nats by the caption; its words {measured['text_no_pads_nats_per_token']:.4g} a token</p>"
  )


def _left_out(count: int) -> str:
  return f'<p class="note">{count} more pairs are in scores.tsv; --maps draws more of them.</p>'
