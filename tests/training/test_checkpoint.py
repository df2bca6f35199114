"""Checkpoints: what comes back is what was saved, and what is damaged is noticed, named and passed over."""

import contextlib
import logging
import resource
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import manifest, sharding
from dalle_jax.errors import StorageError, UserError
from dalle_jax.schedules import Constant
from dalle_jax.sharding import MeshShape, Rules
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import abstract_state, init_state

FILES = {"experiment.json": b'{"name": "toy"}', "tokenizer.model": bytes(range(256))}
ADAMW = AdamW(lr=Constant(1e-2), ema=0.9)


@pytest.fixture(scope="module")
def kit(toy):
  """A state, its abstract form on one device and on eight, and states like it for other steps."""
  objective = toy.Denoise()
  one = {"mesh": sharding.make_mesh(MeshShape(), jax.devices()[:1]), "rules": Rules()}
  eight = {"mesh": sharding.make_mesh(MeshShape(data=2, fsdp=2, model=2)), "rules": Rules()}
  state = init_state(objective, ADAMW, seed=0, **one)

  class Kit:
    abstract = abstract_state(objective, ADAMW, **one)
    abstract_on_eight = abstract_state(objective, ADAMW, **eight)
    wider = abstract_state(toy.Denoise(width=32), ADAMW, **one)

    @staticmethod
    def at(step):
      moved = jax.tree.map(lambda x: x + step, state)
      return moved._replace(step=jnp.int32(step))

  return Kit


def saved(directory, kit, steps, keep=9):
  checkpoints = Checkpoints(directory, keep=keep)
  for step in steps:
    checkpoints.save(step, kit.at(step), FILES)
  checkpoints.close()
  return Checkpoints(directory, keep=keep)


def save_and_wait(checkpoints, state, step):
  checkpoints.save(step, state, FILES)
  checkpoints.wait()


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def largest(step_directory):
  """The file that holds the parameters' numbers."""
  return max((p for p in (step_directory / "params").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_a_bit(file):
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 4
  file.write_bytes(data)


def truncate(file):
  file.write_bytes(file.read_bytes()[:-7])


def test_what_was_saved_comes_back_bit_for_bit(tmp_path, kit):
  checkpoints = saved(tmp_path, kit, [10])
  state, step = checkpoints.restore(kit.abstract)
  assert step == 10
  equal(state, kit.at(10))
  assert checkpoints.files() == FILES


def test_a_save_copies_the_state_before_it_returns(tmp_path, kit):
  checkpoints = Checkpoints(tmp_path)
  state = kit.at(1)
  wanted = jax.device_get(jax.tree.map(jnp.copy, state))
  checkpoints.save(1, state, FILES)
  # What the next train step does: it overwrites the buffers of the state it is given.
  jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)(state)
  checkpoints.close()
  equal(checkpoints.restore(kit.abstract)[0], wanted)


def test_a_state_saved_on_one_device_is_restored_on_eight(tmp_path, kit):
  state, _ = saved(tmp_path, kit, [10]).restore(kit.abstract_on_eight)
  equal(jax.device_get(state), jax.device_get(kit.at(10)))
  assert {s.data.shape for s in state.params["up"]["kernel"].addressable_shards} == {(4, 8)}


def test_where_nothing_was_saved_there_is_nothing(tmp_path, kit):
  checkpoints = Checkpoints(tmp_path / "none")
  assert checkpoints.restore(kit.abstract) is None
  assert checkpoints.good_steps() == []
  with pytest.raises(StorageError, match="holds no checkpoint yet"):
    checkpoints.restore_params(kit.abstract.params)


def test_the_newest_n_are_kept(tmp_path, kit):
  assert saved(tmp_path, kit, [2, 4, 6, 8, 10], keep=3).good_steps() == [6, 8, 10]
  assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "6", "8"]


def test_the_moving_average_is_what_sampling_gets_and_the_parameters_on_request(tmp_path, kit):
  state = kit.at(5)._replace(ema=jax.tree.map(lambda x: x * 3, kit.at(5).params))
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(5, state, FILES)
  checkpoints.close()
  equal(checkpoints.restore_params(kit.abstract.params), state.ema)
  equal(checkpoints.restore_params(kit.abstract.params, step=5, ema=False), state.params)


def test_equal_weights_have_equal_digests_and_others_have_not(tmp_path, kit):
  a, b = saved(tmp_path / "a", kit, [1, 2]), saved(tmp_path / "b", kit, [2])
  assert a.digest() == b.digest() == a.digest(2)
  assert a.digest(1) != a.digest(2)


@pytest.mark.parametrize(
  ("damage", "words"),
  [
    (lambda step: flip_a_bit(largest(step)), "is damaged: its SHA-256 differs"),
    (lambda step: truncate(largest(step)), "bytes, wanted"),
    (lambda step: largest(step).unlink(), "is missing"),
    (lambda step: flip_a_bit(step / "files" / "tokenizer.model"), "tokenizer.model is damaged"),
    (lambda step: (step / "manifest.json").unlink(), "no manifest: it was not finished"),
    (lambda step: flip_a_bit(step / "manifest.json"), "no whole manifest"),
    (lambda step: truncate(step / "manifest.json"), "no whole manifest"),
  ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, kit, caplog, damage, words):
  saved(tmp_path, kit, [10, 20])
  damage(tmp_path / "20")
  checkpoints = Checkpoints(tmp_path)
  with caplog.at_level(logging.WARNING):
    state, step = checkpoints.restore(kit.abstract)
  assert step == 10
  equal(state, kit.at(10))
  (warning,) = [r.getMessage() for r in caplog.records if r.name.startswith("dalle_jax")]
  assert "checkpoint 20 is not good" in warning
  assert words in warning
  assert warning.endswith("going on from checkpoint 10")
  assert "\n" not in warning


def test_orbax_itself_would_have_restored_the_flipped_bit(tmp_path, kit):
  # The reason for the manifest: without it, the damage is loaded as weights.
  checkpoints = saved(tmp_path, kit, [20])
  file, before = largest(tmp_path / "20"), manifest.read(tmp_path / "20")
  flip_a_bit(file)
  assert manifest.problem(tmp_path / "20", contents=False) is None, "sizes alone don't show it"
  with pytest.raises(StorageError, match="SHA-256 differs"):
    checkpoints.restore(kit.abstract)
  flip_a_bit(file)
  assert manifest.read(tmp_path / "20") == before
  equal(Checkpoints(tmp_path).restore(kit.abstract)[0], kit.at(20))


def test_asking_for_a_damaged_step_is_an_error_not_another_step(tmp_path, kit):
  saved(tmp_path, kit, [10, 20])
  flip_a_bit(largest(tmp_path / "10"))
  with pytest.raises(StorageError, match="checkpoint 10 is not good"):
    Checkpoints(tmp_path).restore_params(kit.abstract.params, step=10)


def test_a_first_save_that_was_never_finished_means_to_begin_again(tmp_path, kit, caplog):
  saved(tmp_path, kit, [10])
  (tmp_path / "10" / "manifest.json").unlink()
  with caplog.at_level(logging.WARNING):
    assert Checkpoints(tmp_path).restore(kit.abstract) is None
  assert "beginning again" in caplog.text
  assert saved(tmp_path, kit, [10]).good_steps() == [10]


def test_when_all_that_were_finished_are_damaged_nothing_is_thrown_away(tmp_path, kit):
  saved(tmp_path, kit, [10, 20])
  for step in (10, 20):
    flip_a_bit(largest(tmp_path / str(step)))
  with pytest.raises(StorageError, match=r"checkpoint 20 is not good.*remove the directory to begin again"):
    Checkpoints(tmp_path).restore(kit.abstract)
  assert (tmp_path / "10").is_dir()


@pytest.mark.parametrize(
  ("options", "left"),
  [({}, [50, 60]), ({"keep_every": 30}, [30, 50, 60]), ({"keep_best": 2}, [20, 40, 50, 60]), ({"keep": 1}, [60])],
)
def test_the_newest_stay_and_multiples_and_those_of_the_lowest_loss(tmp_path, kit, options, left):
  checkpoints = Checkpoints(tmp_path, **({"keep": 2} | options))
  for step, loss in {10: 3.0, 20: 1.0, 30: float("nan"), 40: 2.0, 50: 4.0, 60: None}.items():
    checkpoints.save(step, kit.at(step), FILES, loss)
  checkpoints.close()
  assert checkpoints.good_steps() == left
  assert checkpoints.loss(60) is None
  if 50 in left:
    assert checkpoints.loss(50) == 4.0


def test_the_next_save_removes_what_a_kill_left_behind_and_overwrites_a_bad_step(tmp_path, kit):
  saved(tmp_path, kit, [10, 20])
  (tmp_path / "20" / "manifest.json").unlink()
  (tmp_path / "30.orbax-checkpoint-tmp-123").mkdir()
  checkpoints = saved(tmp_path, kit, [20])
  assert checkpoints.good_steps() == [10, 20]
  assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "20"]
  equal(checkpoints.restore(kit.abstract)[0], kit.at(20))


def test_steps_of_a_try_that_was_given_up_do_not_come_back(tmp_path, kit):
  saved(tmp_path, kit, [10, 20, 30])
  flip_a_bit(largest(tmp_path / "30"))
  assert saved(tmp_path, kit, [15]).good_steps() == [10, 15]


def test_a_checkpoint_of_another_model_is_one_line_with_both_shapes(tmp_path, kit):
  with pytest.raises(
    UserError, match=r"of another model: .*float32\[.*16.*\], wanted float32\[.*32.*\].*more"
  ) as caught:
    saved(tmp_path, kit, [10]).restore(kit.wider)
  assert "\n" not in str(caught.value)


@contextlib.contextmanager
def no_file_longer_than(size):
  """A disk on which long files can't be written, as far as this process can tell."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Orbax leaves coroutines behind when a write fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_a_storage_error_and_what_was_there_stays_good(tmp_path, kit, caplog):
  checkpoints = saved(tmp_path, kit, [10])
  with no_file_longer_than(100), pytest.raises(StorageError, match="checkpoint 10 is still good") as caught:
    save_and_wait(checkpoints, kit.at(20), 20)
  assert caught.value.exit_code == 88
  assert "\n" not in str(caught.value)
  assert "cannot save checkpoint 20" in str(caught.value)
  assert "file too large" in str(caught.value)
  assert not caplog.records, "nothing but the one line"
  assert Checkpoints(tmp_path).good_steps() == [10]
  equal(Checkpoints(tmp_path).restore(kit.abstract)[0], kit.at(10))
  # The same object saves again once there is room.
  checkpoints.save(20, kit.at(20), FILES)
  checkpoints.close()
  assert Checkpoints(tmp_path).good_steps() == [10, 20]
  assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "20"]


# Orbax leaves coroutines behind when a write fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_failed_save_is_reported_by_the_next_call_even_without_wait(tmp_path, kit):
  checkpoints = saved(tmp_path, kit, [10])
  with no_file_longer_than(100), contextlib.suppress(StorageError):
    checkpoints.save(20, kit.at(20), FILES)
    checkpoints._finisher.join()
  with pytest.raises(StorageError, match="cannot save checkpoint 20"):
    checkpoints.save(30, kit.at(30), FILES)
  checkpoints.close()


def test_a_disk_without_room_is_noticed_before_anything_is_written(tmp_path, kit, monkeypatch):
  checkpoints = saved(tmp_path, kit, [10])
  monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
  with pytest.raises(StorageError, match=r"no space left on device.*checkpoint 10 is still good"):
    checkpoints.save(20, kit.at(20), FILES)
  checkpoints.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["10"]


def test_a_directory_without_write_permission_is_one_line(tmp_path, kit, unprivileged):
  checkpoints = saved(tmp_path, kit, [10])
  tmp_path.chmod(0o500)
  try:
    with unprivileged(), pytest.raises(StorageError, match=r"cannot save checkpoint 20 .*permission denied") as caught:
      save_and_wait(checkpoints, kit.at(20), 20)
  finally:
    tmp_path.chmod(0o700)
  assert "\n" not in str(caught.value)
  assert Checkpoints(tmp_path).good_steps() == [10]
