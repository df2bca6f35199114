"""What people answered, as a page: shares, votes as bars, and each person beside the others."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from dalle_jax.evaluation import plots
from dalle_jax.evaluation.human_score import HASTY, Key, Result, Worker
from dalle_jax.sampling import static_page


def write(out: Path, key: Key, results: Sequence[Result], told: Sequence[Worker], left_out: Sequence[int]) -> Path:
  """Writes index.html and its plots under `out`; returns the page's path."""
  out.mkdir(parents=True, exist_ok=True)
  sections = [f'<p class="lead">{html.escape(key.names[0])} beside {html.escape(key.names[1])}, by people.</p>']
  for i, result in enumerate(results):
    plots.save(_votes(key, result), out / f"votes-{i}", size=(5.0, 2.8))
    rows = [[html.escape(name), f"{share.right:g}", str(share)] for name, share in result.shares.items()]
    sections += [
      f"<h2>{html.escape(result.question)}</h2>",
      static_page.table(["majority for", "pairs", "share"], rows),
      static_page.plot(f"votes-{i}-light.png", f"votes-{i}-dark.png", "pairs by votes", 480),
    ]
  names = list(told[0].agreement)
  rows = [
    [
      f"form {each.worker}",
      str(each.answered),
      *(str(each.agreement[name] or "nobody to compare with") for name in names),
      f"{each.median_seconds:.1f}",
      f"{100 * each.hasty:.0f} %",
    ]
    for each in told
  ]
  head = ["", "pairs", *(f"agrees, {name}" for name in names), "median seconds", f"under {HASTY:g} s"]
  sections += [
    "<h2>Who answered</h2>",
    static_page.table(head, rows),
    f'<p class="note">{_note(left_out)}</p>',
  ]
  page = out / "index.html"
  page.write_text(static_page.page("What people said of two sources of pictures", sections), encoding="utf-8")
  return page


def _note(left_out: Sequence[int]) -> str:
  said = (
    "The majority is what more people said than anything else. Intervals are Wilson's, of 95 %, with the pairs as "
    "independent trials. A person agrees where they say what most of the others say; pairs without such are left out."
  )
  forms = ", ".join(str(each) for each in left_out)
  return html.escape(f"{said} Left out by hand: form {forms}." if left_out else said)


def _votes(key: Key, result: Result) -> Callable[[Axes, plots.Paper], object]:
  def draw(axes: Axes, paper: plots.Paper) -> None:
    total = max(1, sum(result.votes))
    bars = axes.bar(range(len(result.votes)), [100 * each / total for each in result.votes], color=paper.series[0])
    axes.bar_label(bars, [str(each) for each in result.votes], color=paper.soft, fontsize=9, padding=2)
    axes.set_xticks(range(len(result.votes)))
    axes.margins(y=0.15)
    axes.set_xlabel(f"votes for {key.names[0]}")
    axes.set_ylabel("% of pairs that all answered")

  return draw
