"""Compiled programs are kept in the workdir, taken from there, and nowhere else afterwards."""

import jax
import jax.numpy as jnp
import pytest

from dalle_jax.training import compile_cache

HIT = "/jax/compilation_cache/cache_hits"


@pytest.fixture
def everything_is_kept():
  """However quickly it was compiled; and no directory is set from outside."""
  names = "jax_persistent_cache_min_compile_time_secs", "jax_compilation_cache_dir"
  before = [getattr(jax.config, name) for name in names]
  for name, value in zip(names, (0.0, None)):
    jax.config.update(name, value)
  yield
  for name, value in zip(names, before):
    jax.config.update(name, value)


@pytest.fixture
def hits():
  """The names of the events that JAX tells of."""
  events = []
  listener = lambda name, **_: events.append(name)  # noqa: E731
  jax.monitoring.register_event_listener(listener)
  yield lambda: events.count(HIT)
  jax.monitoring.unregister_event_listener(listener)


def compile_anew():
  jax.clear_caches()
  return jax.jit(lambda x: jnp.sin(x) * 3.0)(jnp.arange(5.0))


def test_a_program_is_compiled_once_for_a_workdir(tmp_path, everything_is_kept, hits):
  with compile_cache.under(tmp_path):
    first = compile_anew()
    assert hits() == 0
    kept = sorted(file.name for file in (tmp_path / "xla_cache").iterdir())
    assert kept
    again = compile_anew()
  assert hits() >= 1
  assert (first == again).all()
  assert sorted(file.name for file in (tmp_path / "xla_cache").iterdir()) == kept


def test_afterwards_nothing_is_kept_and_another_workdir_has_its_own(tmp_path, everything_is_kept, hits):
  with compile_cache.under(tmp_path / "a"):
    compile_anew()
  compile_anew()
  with compile_cache.under(tmp_path / "b"):
    compile_anew()
  assert hits() == 0
  assert any((tmp_path / "b" / "xla_cache").iterdir())


def test_what_a_kill_cut_short_is_replaced(tmp_path, everything_is_kept, hits):
  with compile_cache.under(tmp_path):
    expected = compile_anew()
  files = {file: file.read_bytes() for file in (tmp_path / "xla_cache").iterdir()}
  for file, data in files.items():
    file.write_bytes(data[:100])
  with compile_cache.under(tmp_path):  # a warning of JAX's would be an error here
    got = compile_anew()
    assert hits() == 0
    compile_anew()
    assert hits() >= 1
  assert (got == expected).all()
  assert all(len(file.read_bytes()) > 100 for file in files)


def test_a_directory_of_the_user_s_stays(tmp_path, everything_is_kept):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
  try:
    with compile_cache.under(tmp_path):
      assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
  finally:
    jax.config.update("jax_compilation_cache_dir", None)
