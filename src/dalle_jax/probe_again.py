"""Suites of the blog's probes that were drawn before, ranked anew, and their pages with them; nothing is drawn."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dalle_jax import evaluate, rank
from dalle_jax.errors import UserError
from dalle_jax.evaluation.probes import folder
from dalle_jax.evaluation.probes.suite import Caption, Suite
from dalle_jax.probe import check_folders, warnings
from dalle_jax.sampling import draws as draws_lib
from dalle_jax.sampling import ranking
from dalle_jax.sampling.draws import Draws
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir

KEEP = 32  # the blog's


def again(
  workdir: Workdir,
  drawn: Path,
  suites: Sequence[Suite],
  *,
  keep: int | None,
  out: Path,
  batch: int,
  asked: Mapping[str, float] | None = None,
  clip: Path | None = None,
  mesh: MeshShape | None = None,
  progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> Path:
  """Ranks what `probe.probe` wrote of suites to `drawn`, writes their folders under `out`, and returns OUT/index.html.

  keep: of each caption; the blog's 32, or all where fewer were drawn, if None. asked: weights of rankers (see
  `ranking.rankers`), whose scores are computed where they are not kept there yet, and kept from then on; clip: the
  directory of a published CLIP that ranks, if any; mesh: of devices, one if None. Raises UserError, before anything is
  written, where a suite was not drawn there, with other weights, or of other captions than it has now, `keep` is more
  than were drawn, or `out` can't be written.
  """
  check_folders(out, suites)
  found = {suite: draws_lib.read(drawn / suite.name) for suite in suites}
  captions = {suite: _captions(drawn / suite.name, suite, draws) for suite, draws in found.items()}
  words, drawer = workdir.tokenizer(), evaluate.drawer(workdir, batch, mesh, clip)
  ranking.rankers(drawer, asked)  # what can't rank is told before anything is written
  for suite, draws in found.items():
    rank.check_kept(drawn / suite.name, draws, keep or 1)
    rank.check_weights(workdir, drawn / suite.name, draws, drawer)
  try:
    for suite, draws in found.items():
      chosen = ranking.rankers(drawer, asked, draws.captions)
      draws = rank.scored(drawn / suite.name, draws, drawer, chosen, progress)
      kept = min(KEEP, draws.codes_CNP.shape[1]) if keep is None else keep
      folder.write(
        out / suite.name,
        suite,
        captions[suite],
        rank.best(draws, drawer, chosen, kept),
        seed=draws.seed,
        about={**draws.about, "ranked by": ranking.told(chosen)},
        warnings=tuple(warnings(captions[suite], words)),
      )
    return folder.write_overview(out, workdir.experiment().name)
  except OSError as error:
    raise UserError(f"cannot write pictures to {out}: {error.strerror or error}") from error


def _captions(place: Path, suite: Suite, draws: Draws) -> tuple[Caption, ...]:
  """The suite's captions that were drawn, in the order of the draws."""
  by_text = {caption.text: caption for caption in suite.captions()}
  if unknown := [text for text in draws.captions if text not in by_text]:
    raise UserError(f"{place} holds {unknown[0][:60]!r}, which is no caption of {suite.name}: draw anew")
  return tuple(by_text[text] for text in draws.captions)
