"""A report as text for a terminal and as JSON for programs (WORKDIR/evaluation.json)."""

import dataclasses
from typing import Any

from dalle_jax.evaluation import captioning, composition, retrieval
from dalle_jax.evaluation.report import Report


def as_text(report: Report) -> str:
  """Losses, reconstruction, composition or retrieval: a paragraph each."""
  parts = []
  if report.losses:
    rows = [
      (stage, name, f"{value:.4f}") for stage, metrics in report.losses.items() for name, value in metrics.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"  {stage:{widths[0]}}  {name:{widths[1]}}  {value:>{widths[2]}}" for stage, name, value in rows]
    parts.append("\n".join([f"held-out losses on {report.split}", *lines]))
  if report.reconstruction:
    r = report.reconstruction
    parts.append(
      f"dVAE on {r.pictures} pictures of {report.split}: PSNR {r.psnr:.2f} dB "
      f"(the mean picture {r.psnr_mean_picture:.2f}), {r.used} of {len(r.counts_V)} codes used, "
      f"perplexity {r.perplexity:.0f}"
    )
  if report.composition:
    rows = [row for judged in report.composition for row in composition.table(judged, report.best_of)]
    parts.append("all that the caption says is right, with 95 % intervals\n" + composition.as_text(rows))
  if report.written:
    rows = captioning.table(report.written)
    parts.append("all that a written caption says is so, with 95 % intervals\n" + composition.as_text(rows))
  if report.retrieval:
    parts.append(retrieval.as_text(list(report.retrieval)))
  return "\n\n".join(parts)


def to_json(report: Report) -> dict[str, Any]:
  """The numbers of the report, proportions with their intervals, and the protocol; no pictures."""
  r = report.reconstruction
  return {
    "split": report.split,
    "protocol": dataclasses.asdict(report.protocol),
    "losses": report.losses,
    "reconstruction": r
    and {
      "pictures": r.pictures,
      "psnr": r.psnr,
      "psnr_mean_picture": r.psnr_mean_picture,
      "codes": len(r.counts_V),
      "codes_used": r.used,
      "code_perplexity": r.perplexity,
    },
    "composition": [
      dataclasses.asdict(row) for judged in report.composition for row in composition.table(judged, report.best_of)
    ],
    "aspects": {
      judged.split: {
        aspect: {name: dataclasses.asdict(p) for name, p in found.items()}
        for aspect, found in composition.aspects(judged, report.best_of).items()
      }
      for judged in report.composition
    },
    "best_of_n": {
      judged.split: {
        by or "a perfect reranker": {str(n): dataclasses.asdict(p) for n, p in composition.curve(judged, by).items()}
        for by in (*judged.scores, None)
      }
      for judged in report.composition
    },
    "captions": report.written
    and {
      "all_right": [dataclasses.asdict(row) for row in captioning.table(report.written)],
      "aspects": {
        aspect: {name: dataclasses.asdict(p) for name, p in found.items()}
        for aspect, found in captioning.aspects(report.written).items()
      },
    },
    "retrieval": [
      {
        "split": each.split,
        "pictures": each.pictures,
        "captions": len(each.ranks_C),
        "candidates": each.candidates,
        "chance": each.chance(),
        "within_10": dataclasses.asdict(each.within()),
      }
      for each in report.retrieval
    ],
  }
