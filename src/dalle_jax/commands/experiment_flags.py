"""An experiment file with the flags that set its function's parameters and its fields."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from dalle_jax.errors import UserError


def check_file(file: str) -> None:
  """Raises UserError where there is no such file: before anything slow is imported."""
  if file.startswith("-"):
    raise UserError(f"got {file} where the EXPERIMENT file is wanted, as in experiments/demo.py: name it first")
  if not Path(file).is_file():
    raise UserError(f"no experiment file {file}; the ones that come with the project are in experiments/")


def parse(own: type, file: str, argv: list[str], *, prog: str, description: str = "") -> Any:
  """The dataclass `own` of the command's flags, with the file's experiment in one more field `experiment`.

  Every parameter of the file's function and every field of what it returns is a flag as well. Raises UserError in one
  line for what does not parse or fit.
  """
  from dalle_jax import experiment
  from dalle_jax.commands import flags

  rest = list(argv)

  def choose(signature: inspect.Signature) -> dict[str, Any]:
    of_file, rest[:] = _of_the_file(signature, rest)
    if {"-h", "--help"} & set(rest):
      print(f"parameters of {file}:")
      for name, parameter in signature.parameters.items():
        told = "required" if parameter.default is inspect.Parameter.empty else f"default: {parameter.default}"
        print(f"  --{name.replace('_', '-')} ({told})")
    return vars(flags.parse(_parameters(signature), of_file, prog=f"{prog} {file}"))

  loaded = experiment.load(file, choose)
  return flags.parse(flags.with_experiment(own, loaded), rest, prog=f"{prog} {file}", description=description)


def _of_the_file(signature: inspect.Signature, argv: list[str]) -> tuple[list[str], list[str]]:
  """The flags that are parameters of the file's function, each with its value, and the others."""
  own, rest, taking = [], [], False
  for word in argv:
    name = word.removeprefix("--").split("=")[0].replace("-", "_")
    if word.startswith("--"):
      taking = name in signature.parameters
    (own if taking else rest).append(word)
  return own, rest


def _parameters(signature: inspect.Signature) -> type:
  """The function's parameters as a dataclass of flags."""
  fields = [(name, p.annotation, dataclasses.field(default=p.default)) for name, p in signature.parameters.items()]
  return dataclasses.make_dataclass("Parameters", fields, frozen=True, kw_only=True)
