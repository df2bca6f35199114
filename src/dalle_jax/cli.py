"""The `dalle` command: finds the subcommand, runs it, and turns what went wrong into one line and an exit code.

Exit codes: 0 done, 2 the user's mistake, 75 preempted and saved (start the same command again), 86 another process is
gone or stuck, 87 stopped by training health, 88 storage, 141 nobody reads the output. `--debug` anywhere shows the
traceback as well.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence

from dalle_jax import allocator, processes
from dalle_jax.errors import PeerLost, StorageError, TrainingPreempted, TrainingUnhealthy, UserError

HELP = """\
usage: dalle COMMAND ...

Train DALL-E, draw with it, and measure it.

  data prepare    decode and check pictures with captions, write them as a prepared data set
  data inspect    counts, sizes, caption lengths, what was dropped and why, and a page of examples
  data encode     write the dVAE's codes of every picture
  data overlap    evaluation pictures that training has seen, on a page and as a list to leave out
  train           run an experiment file: dVAE, transformer and CLIP, one after the other
  plan            compile an experiment for a pod that is not here: does it fit, how fast can it be
  sample          draw pictures from captions, rank them by CLIP
  score           how likely the model finds pictures of captions, where, and which belong together
  caption         write captions of pictures, of a run whose transformer was trained image-first
  probe           draw the captions of DALL-E's blog, on pages whose words are picked
  eval            held-out losses and, where the data has a judge, how often captions are drawn right;
                  with --metrics or --stage figures that carry how they were made: FID, CLIP score, ...
  compare         two such results beside each other, if they were made alike
  human           a form on which people compare two runs' pictures, and what they answered
  reference       mean and covariance of pictures' features, which FID compares drawn pictures with
  bench           time the train step, the sampler or the attention on this machine
  ablate          run packs of ablations: each claim's arms at matched seeds, intervals, a verdict
  report          the results of packs on one page
  checkpoint      list, verify, compare checkpoints, export their weights
  convert         read weights that other projects published

dalle COMMAND --help tells a command's flags. --debug shows the traceback of an error.
"""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs `dalle ARGV`; returns the exit code."""
  allocator.keep_freed_memory()
  argv = list(sys.argv[1:] if argv is None else argv)
  debug = "--debug" in argv
  argv = ["--help" if arg == "-h" else arg for arg in argv if arg != "--debug"]
  try:
    code = _dispatch(argv)
    sys.stdout.flush()
    return code
  except (UserError, TrainingPreempted, TrainingUnhealthy, StorageError, PeerLost) as error:
    if debug:
      traceback.print_exc()
    print(f"dalle: {processes.name()}{' '.join(str(error).split())}", file=sys.stderr)
    return _ended(error.exit_code)
  except KeyboardInterrupt:
    same = "; the same command goes on from the last checkpoint"
    goes_on = {"train": same, "ablate": same, "eval": "; with --metrics it goes on"}
    print(f"dalle: interrupted{goes_on.get(argv[0], '') if argv else ''}", file=sys.stderr)
    return _ended(130)
  except BrokenPipeError:
    # Whoever read the output has left (`dalle ... | head`): no more can be said there, at exit neither.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _ended(141)
  except Exception:
    if not processes.several():
      raise
    traceback.print_exc()
    return _ended(1)


def _ended(code: int) -> int:
  """The code; of several processes, one that failed ends here and now, for the others will not come to its end."""
  if processes.several() and code != TrainingPreempted.exit_code:
    processes.leave(code)
  return code


def _dispatch(argv: list[str]) -> int:
  if not argv or argv[0] in ("-h", "--help", "help"):
    print(HELP, end="")
    return 0
  if argv[0] == "--version":
    from dalle_jax import __version__

    print(f"dalle_jax {__version__}")
    return 0
  if argv[0] not in COMMANDS:
    from dalle_jax.commands.suggest import suggest

    raise UserError(f"no command {argv[0]!r}; {suggest(argv[0], list(COMMANDS))} (dalle --help lists them)")
  return COMMANDS[argv[0]](argv[1:])


def _data(argv: list[str]) -> int:
  from dalle_jax.commands import data

  return data.run(argv)


def _train(argv: list[str]) -> int:
  from dalle_jax.commands import train

  return train.run(argv)


def _plan(argv: list[str]) -> int:
  from dalle_jax.commands import plan

  return plan.run(argv)


def _sample(argv: list[str]) -> int:
  from dalle_jax.commands import sample

  return sample.run(argv)


def _score(argv: list[str]) -> int:
  from dalle_jax.commands import score

  return score.run(argv)


def _caption(argv: list[str]) -> int:
  from dalle_jax.commands import caption

  return caption.run(argv)


def _probe(argv: list[str]) -> int:
  from dalle_jax.commands import probe

  return probe.run(argv)


def _eval(argv: list[str]) -> int:
  from dalle_jax.commands import evaluate

  return evaluate.run(argv)


def _compare(argv: list[str]) -> int:
  from dalle_jax.commands import compare

  return compare.run(argv)


def _human(argv: list[str]) -> int:
  from dalle_jax.commands import human

  return human.run(argv)


def _reference(argv: list[str]) -> int:
  from dalle_jax.commands import reference

  return reference.run(argv)


def _bench(argv: list[str]) -> int:
  from dalle_jax.commands import bench

  return bench.run(argv)


def _ablate(argv: list[str]) -> int:
  from dalle_jax.commands import ablate

  return ablate.run(argv)


def _report(argv: list[str]) -> int:
  from dalle_jax.commands import report

  return report.run(argv)


def _checkpoint(argv: list[str]) -> int:
  from dalle_jax.commands import checkpoint

  return checkpoint.run(argv)


def _convert(argv: list[str]) -> int:
  from dalle_jax.commands import convert

  return convert.run(argv)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
  "data": _data,
  "train": _train,
  "plan": _plan,
  "sample": _sample,
  "score": _score,
  "caption": _caption,
  "probe": _probe,
  "eval": _eval,
  "compare": _compare,
  "human": _human,
  "reference": _reference,
  "bench": _bench,
  "ablate": _ablate,
  "report": _report,
  "checkpoint": _checkpoint,
  "convert": _convert,
}
