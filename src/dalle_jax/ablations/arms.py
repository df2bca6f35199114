"""A pack's arms, resolved: each one's experiment, which may differ from the base in what the arm names and no more."""

import json
from collections.abc import Callable

from dalle_jax import config
from dalle_jax.ablations.pack import Arm, Pack, Scale
from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment, differences


def resolve(pack: Pack, scale: Scale) -> dict[str, Experiment]:
  """The experiment of every arm, by its name.

  Raises UserError, naming the field, for an arm that differs from the base in what it does not name, that names what
  does not differ, or that is another arm by another name.
  """
  base = _made(pack, "base", lambda: pack.base(scale))
  base.stage(pack.stage)
  found, told = {}, {}
  for arm in pack.arms:
    found[arm.name] = _made(pack, arm.name, lambda arm=arm: arm.change(base))
    _check(pack, arm, changes(base, found[arm.name]))
    same = json.dumps([config.to_dict(found[arm.name]), setting(arm)], sort_keys=True)
    if same in told:
      raise UserError(f"{pack.title}: the arms {told[same]!r} and {arm.name!r} are the same: leave one of them out")
    told[same] = arm.name
  return found


def changes(base: Experiment, other: Experiment) -> list[str]:
  """The dotted fields in which an arm differs from the base, as `path: old -> new`."""
  return differences(config.to_dict(base), config.to_dict(other))


def setting(arm: Arm) -> config.Json:
  """An arm's setting as JSON. Raises UserError where it is not a configuration."""
  try:
    return config.to_dict(arm.setting)
  except TypeError as error:
    raise UserError(f"the arm {arm.name!r} has a setting that is no configuration: {error}") from error


def _made(pack: Pack, name: str, make: Callable[[], Experiment]) -> Experiment:
  try:
    made = make()
  except (UserError, TypeError, ValueError, AttributeError, KeyError) as error:
    raise UserError(f"{pack.title}, {name}: {error}") from error
  if not isinstance(made, Experiment):
    raise UserError(f"{pack.title}, {name}: made a {type(made).__name__}, an Experiment is wanted")
  return made


def _check(pack: Pack, arm: Arm, changed: list[str]) -> None:
  fields = [line.split(":", 1)[0] for line in changed]
  if odd := [line for line, field in zip(changed, fields) if not any(_named(field, name) for name in arm.fields)]:
    more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
    raise UserError(
      f"{pack.title}: the arm {arm.name!r} differs from the base in {odd[0]}{more}, which its fields do not name"
    )
  if idle := [name for name in arm.fields if not any(_named(field, name) for field in fields)]:
    raise UserError(f"{pack.title}: the arm {arm.name!r} names {idle[0]}, in which it does not differ from the base")
  if seed := [field for field in fields if field in ("seed", "data")]:
    raise UserError(f"{pack.title}: the arm {arm.name!r} changes the {seed[0]}, which is the same for all arms")


def _named(field: str, name: str) -> bool:
  return field == name or field.startswith(f"{name}.")
