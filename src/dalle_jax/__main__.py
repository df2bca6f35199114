"""`python -m dalle_jax` is `dalle`."""

import sys

from dalle_jax.cli import main

sys.exit(main())
