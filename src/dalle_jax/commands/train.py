"""`dalle train EXPERIMENT --workdir DIR [--only STAGE] [any field of the experiment]`."""

import dataclasses
import re
from typing import Any, Literal

from dalle_jax.errors import UserError
from dalle_jax.processes import Processes, is_loss, join, lost

USAGE = """\
usage: dalle train EXPERIMENT --workdir DIR [--only STAGE] [--rollback] [--profile FIRST:LAST] [--wandb PROJECT]
                   [--every N --metrics losses composition clip [--prompts FILE] [--prompts-limit 64]]
                   [--FIELD VALUE ...]

Runs the stages of an experiment file, or goes on with them where the workdir stands.
dalle train EXPERIMENT --help lists every field that can be set, e.g. --stages.transformer.steps 1000
--every measures a fixed list of captions every N steps: WORKDIR/STAGE/prompt_metrics.jsonl, and .png, the curves
--rollback passes over the batches on which training health stopped the run (exit code 87), and goes on
Parameters of the file's experiment() are flags as well: dalle train experiments/pictures.py --data DIR --size s
"""
ROLLBACK = "--rollback, alone, passes over the batches on which training health stopped the run."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Runs the stages of an experiment, or goes on with them where the workdir stands."""

  workdir: str
  """Where checkpoints, metrics and pictures go: a directory, or gs://BUCKET/NAME."""
  only: str | None = None
  """Run this stage alone."""
  profile: str | None = None
  """Trace the steps FIRST:LAST of each stage into WORKDIR/STAGE/profile, for XProf."""
  wandb: str | None = None
  """Send metrics and pictures to this project of Weights & Biases as well."""
  every: int | None = None
  """Steps from one measurement of a fixed list of captions to the next."""
  metrics: tuple[Literal["losses", "composition", "clip"], ...] = ()
  """What is measured: held-out losses; how many are drawn right, where the data has a judge; CLIP's cosine."""
  prompts: str | None = None
  """The captions, a line each, or PartiPrompts.tsv; the first held-out ones if not said."""
  prompts_limit: int | None = None
  """How many of them; 64 if not said."""
  processes: Processes = dataclasses.field(default_factory=Processes)
  """How this process finds the others of its run."""


def run(argv: list[str]) -> int:
  """Parses the flags and runs the experiment. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  words = [word for word in argv if word != "--rollback"]
  if not words:
    raise UserError("got --rollback alone, wanted: dalle train EXPERIMENT --workdir DIR --rollback")
  file, *rest = words
  from dalle_jax.commands import experiment_flags

  experiment_flags.check_file(file)
  given = experiment_flags.parse(Flags, file, rest, prog="dalle train", description=ROLLBACK)
  profile, measured = _steps(given.profile), _measured(given)
  join(given.processes)
  from dalle_jax import run as runner
  from dalle_jax.training import wandb_log

  if given.wandb:
    wandb_log.require()
  try:
    runner.run(
      given.experiment,
      given.workdir,
      only=given.only,
      profile=profile,
      wandb=given.wandb,
      step_limit=given.processes.step_limit,
      rollback="--rollback" in argv,
      measured=measured,
    )
  except Exception as error:
    if not is_loss(error):
      raise
    raise lost(error, "before or between the stages' steps") from error
  return 0


def _measured(given: Any) -> Any:
  """What is asked of --every and its flags, or None. Raises UserError where they do not go together."""
  if given.every is None:
    if given.metrics or given.prompts is not None or given.prompts_limit is not None:
      raise UserError("--metrics and --prompts are read by --every alone: add --every 500, or leave them out")
    return None
  from dalle_jax.prompt_metrics import Asked

  return Asked(every=given.every, metrics=given.metrics, prompts=given.prompts, limit=given.prompts_limit)


def _steps(text: str | None) -> tuple[int, int] | None:
  """FIRST:LAST as numbers. Raises UserError for anything else."""
  if text is None:
    return None
  found = re.fullmatch(r"(\d+):(\d+)", text)
  if not found or not 1 <= int(found[1]) <= int(found[2]):
    raise UserError(f"got --profile {text}, wanted the first and the last step of a trace, as in --profile 10:13")
  return int(found[1]), int(found[2])
