"""Eight simulated CPU devices, and jax's own checks turned up, before anything imports jax."""

import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import array_types
import jax
import pytest

array_types.install()  # before anything imports dalle_jax

pytest_plugins = ["minutes"]

# Traced programs are kept, and looking through all of them for garbage at every 700 new objects finds next to none.
gc.set_threshold(50_000, 20, 50)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Frozen weights belong in arguments: closing over them in a jitted function is an error above 1 MB.
jax.config.update("jax_captured_constants_warn_bytes", 1_000_000)


@pytest.fixture(scope="session")
def bucket_environment():
  """A bucket of this machine, gs://bucket, for the tests of this process, and what its children need to find it."""
  import bucket

  with bucket.served() as environment:
    before = dict(os.environ)
    os.environ.update(environment)
    yield environment
    for name in environment:
      os.environ.pop(name) if name not in before else os.environ.update({name: before[name]})
