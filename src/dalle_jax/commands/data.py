"""`dalle data prepare|inspect|encode|overlap`."""

from collections.abc import Callable

from dalle_jax.commands.suggest import suggest
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle data prepare NAME|FOLDER|FILES.tar --out DIR    write a prepared data set
       dalle data inspect DIR                                say what is in it, and show examples
       dalle data encode DIR --dvae WORKDIR --out DIR        write the dVAE's codes of its pictures
       dalle data overlap A B --out DIR                      evaluation pictures (B) that training (A) has seen

NAME is captioned_scenes, raven, emoji, or the name of a TFDS data set with pictures and text.
"""


def run(argv: list[str]) -> int:
  """Dispatches to the subcommand. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  if argv[0] not in SUBCOMMANDS:
    raise UserError(f"no command 'data {argv[0]}'; {suggest(argv[0], list(SUBCOMMANDS))}")
  return SUBCOMMANDS[argv[0]](argv[1:])


def _prepare(argv: list[str]) -> int:
  from dalle_jax.commands import data_prepare

  return data_prepare.run(argv)


def _inspect(argv: list[str]) -> int:
  from dalle_jax.commands import data_inspect

  return data_inspect.run(argv)


def _encode(argv: list[str]) -> int:
  from dalle_jax.commands import data_encode

  return data_encode.run(argv)


def _overlap(argv: list[str]) -> int:
  from dalle_jax.commands import data_overlap

  return data_overlap.run(argv)


SUBCOMMANDS: dict[str, Callable[[list[str]], int]] = {
  "prepare": _prepare,
  "inspect": _inspect,
  "encode": _encode,
  "overlap": _overlap,
}
