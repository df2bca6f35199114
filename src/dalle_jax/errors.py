"""The exceptions that end a command with one line and an exit code of their own (the table is in launch/README.md)."""


class UserError(ValueError):
  """Bad input from the user; the message is one line: what was got, what was wanted, what to change."""

  exit_code = 2


class TrainingPreempted(RuntimeError):
  """The process was asked to go; a checkpoint was saved, and the same command goes on from it."""

  exit_code = 75


class TrainingUnhealthy(RuntimeError):
  """Too many updates in a row were not finite; the last good checkpoint is kept."""

  exit_code = 87


class StorageError(RuntimeError):
  """A checkpoint or a data shard could not be written or read; what was there before is untouched."""

  exit_code = 88
