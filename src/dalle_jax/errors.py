"""The one exception for a user's mistake. Its message is one line: what was got, what was wanted, what to change."""


class UserError(ValueError):
  """Bad input from the user. The command line prints its message alone and exits with 2."""
