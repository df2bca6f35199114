"""The exceptions that end a command with one line and an exit code of their own (the table is in launch/README.md)."""


class UserError(ValueError):
  """Bad input from the user; the message is one line: what was got, what was wanted, what to change."""

  exit_code = 2


class TrainingPreempted(RuntimeError):
  """The process was asked to go; a checkpoint was saved, and the same command goes on from it."""

  exit_code = 75


class TrainingUnhealthy(RuntimeError):
  """Too many updates in a row were not finite or spikes; the last good checkpoint is kept."""

  exit_code = 87


class StorageError(RuntimeError):
  """A checkpoint or a data shard could not be written or read; what was there before is untouched."""

  exit_code = 88


class PeerLost(RuntimeError):
  """Another process of this run, or a data worker, is gone or stuck; the same command goes on from the checkpoint.

  exit_code: that of a process which ended for a reason of its own.
  """

  exit_code = 86

  def __init__(self, message: str, exit_code: int | None = None):
    super().__init__(message)
    if exit_code is not None:
      self.exit_code = exit_code
