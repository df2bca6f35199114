"""Writes `tests/recorded/` anew, with the official modules on the path, as they are in `make test-parity`."""

import recorded
from official_numbers import NUMBERS

if __name__ == "__main__":
  for name, compute in NUMBERS.items():
    recorded.save(name, compute())
    print(name)
