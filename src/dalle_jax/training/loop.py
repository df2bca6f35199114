"""The loop: from the newest good checkpoint, or from scratch, to the last step.

A step is dispatched before the numbers of the one before it are read, so the device does not wait for Python. Whatever
kills the process, the same call goes on from the last checkpoint and ends with the same bits on the same devices: data
and randomness are functions of (seed, step), and metrics.jsonl is cut back to the step resumed from.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from dalle_jax import processes, sharding
from dalle_jax.errors import PeerLost, TrainingPreempted, TrainingUnhealthy
from dalle_jax.places import Place
from dalle_jax.training import left_out, lock, parameter_table, signals, watchdog
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.goodput import Goodput
from dalle_jax.training.metrics import MetricsLog, NoLog
from dalle_jax.training.optimizers import Optimizer
from dalle_jax.training.powersgd import PowerSGD
from dalle_jax.training.profile import Trace
from dalle_jax.training.step import Objective, State, abstract_state, init_state, make_step
from dalle_jax.training.tally import Batch, Tally
from dalle_jax.training.throughput import Throughput, Work

# Bytes of weights that several processes gather into one, to draw and measure while they train.
MOST_GATHERED = 2 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hook:
  """Called every `every` steps and after the last with (step, params), params being the moving average if there is one.

  What it returns is reported: numbers as metrics, uint8[H, W, 3] arrays as pictures. None reports nothing. Of several
  processes the first one alone calls it, with params gathered.
  """

  every: int
  fn: Callable[[int, Any], Mapping[str, float | np.ndarray] | None]


def train(
  *,
  name: str,
  steps: int,
  objective: Objective,
  optimizer: Optimizer,
  seed: int,
  mesh: Mesh,
  rules: sharding.Rules,
  accumulate: int = 1,
  reduce: PowerSGD | None = None,
  frozen: Any,
  batches: Callable[[int], Iterator[Batch]],
  workdir: Path,
  store: Place | None = None,
  beforehand: Callable[[], None] = lambda: None,
  files: Mapping[str, bytes],
  hooks: Sequence[Hook] = (),
  start: Callable[[Any], Any] | None = None,
  work: Work | None = None,
  profile: tuple[int, int] | None = None,
  wandb: str | None = None,
  step_limit: float = 1800.0,
  save_every: int,
  keep: int,
  keep_every: int | None = None,
  keep_best: int = 0,
  log_every: int,
) -> State:
  """Trains to `steps` and returns the state; returns at once when the workdir's checkpoint is there already.

  accumulate: parts of a batch that are taken one after the other; reduce: see `make_step`; batches: those from a step
  on, a function of the step alone; store: the directory of checkpoints, workdir/checkpoints if None; beforehand: called
  before each is called good; files: stored with every checkpoint; start: given random parameters, those to begin with;
  work: what utilisation and tokens are reckoned with; profile: first and last step of a trace that XProf opens, in
  workdir/profile; wandb: a project of Weights & Biases that metrics and pictures go to as well; step_limit: seconds
  after which a step that has not ended ends the process, with exit code 86; keep, keep_every, keep_best: see
  `Checkpoints`, the loss being the mean since the save before, of half of `save_every` updates or more.

  Of several processes all call this, with the rows of their `sharding.share` of each batch, and all stop together. One
  whose peer is gone ends at once, with exit code 86: nothing that it waits for will come.

  Steps of left_out.json are passed over. Those that end a run by TrainingUnhealthy are noted in unhealthy.json.

  Raises TrainingPreempted (saved) on SIGTERM, TrainingUnhealthy after too many updates in a row that were left out,
  StorageError when a checkpoint can't be written, UserError when the workdir is another job's or another model's.
  """
  begun = time.monotonic()
  with lock.held(workdir), signals.stop_requests() as asked_to_stop, watchdog.watching(name, step_limit) as dog:
    checkpoints = Checkpoints(store or workdir / "checkpoints", keep, keep_every, keep_best, beforehand)
    where = {"mesh": mesh, "rules": rules, "reduce": reduce}
    like = abstract_state(objective, optimizer, **where)
    found = checkpoints.restore(like)
    state, first = found or (init_state(objective, optimizer, seed=seed, **where), 0)
    if first >= steps:
      return state
    if found is None and start is not None:
      state = _begin_with(start(processes.gathered(state.params)), state)
    log = processes.by_first(lambda: MetricsLog(workdir, first, wandb)) or NoLog()
    throughput = Throughput(list(mesh.devices.flat), work)
    run = Tally(name, steps, first, optimizer.max_skipped, log_every, log, throughput, dog)
    _introduce(run, like, state, mesh, profile)
    trace = Trace(profile if processes.index() == 0 else None, workdir / "profile")
    step_fn = make_step(objective, optimizer, seed=seed, accumulate=accumulate, **where)
    frozen = _on_all(frozen, mesh)
    passed_over = left_out.steps(workdir)
    data = iter(batches(first))
    # Simulated CPU devices deadlock when steps with collectives are queued (XLA's thread pool is too small).
    one_at_a_time = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
    run.goodput = Goodput(workdir, first, begun=begun, keep=processes.index() == 0)
    try:
      for step in range(first + 1, steps + 1):
        dog.step(step, "waiting for its batch")
        own = run.next_batch(data)
        dog.now("waiting for the devices")
        if step in passed_over:
          run.catch_up()
          state = _pass_over(state)
          run.log.write(step, {"left_out": 1.0})
        else:
          batch = _place(own, accumulate, mesh, rules)
          run.throughput.examples = len(next(iter(batch.values())))
          trace.before(step)
          state, metrics = run.dispatch(step_fn, state, frozen, batch)
          trace.after(step, metrics)
          run.read(step, metrics)
        last, stop = step == steps, asked_to_stop()
        due = [hook for hook in hooks if last or step % hook.every == 0]
        save = last or stop or step % save_every == 0
        if save or due or one_at_a_time:
          run.catch_up()
        if due:
          with run.now("drawing"):
            _show(due, step, state, run)
        if save:
          with run.now("saving"):
            checkpoints.save(step, state, files, run.loss_since_save(save_every // 2))
        if stop or (last and not processes.several() and asked_to_stop()):
          with run.now("saving"):
            checkpoints.wait()
          raise TrainingPreempted(f"{name} was asked to stop and saved step {step}: start the same command again")
      return state
    except TrainingUnhealthy:
      if processes.index() == 0:
        with contextlib.suppress(OSError):  # why it stopped is what has to be said
          left_out.record(workdir, run.offending)
      raise
    except Exception as error:
      if processes.is_loss(error):
        _leave_the_lost(error, f"{name} at step {step}")
      raise
    finally:
      trace.close()
      _close(data)
      try:
        with run.now("ending"):
          checkpoints.close()
      finally:
        run.close()


def _introduce(run: Tally, like: State, state: State, mesh: Mesh, profile: tuple[int, int] | None) -> None:
  """Says what is trained and on what, and what of it can't be reckoned or traced."""
  rows = parameter_table.describe(like.params)
  run.log.text("parameters.txt", parameter_table.table(rows))
  run.progress.say(_banner(state, mesh, run.first, run.steps))
  if mesh.size > 1:
    run.progress.show(parameter_table.table(parameter_table.grouped(rows)))
  run.progress.say(_sizes(like))
  if profile and not (run.first < profile[0] <= run.steps):
    begins = f"it goes from step {run.first + 1} to {run.steps}, --profile begins at {profile[0]}"
    run.progress.say(f"nothing is traced: {begins}")
  if note := run.throughput.unknown():
    run.progress.say(note)


def _show(due: Sequence[Hook], step: int, state: State, run: Tally) -> None:
  params = state.params if state.ema is None else state.ema
  if processes.several() and sum(x.nbytes for x in jax.tree.leaves(params)) > MOST_GATHERED:
    run.progress.say(f"step {step}: nothing is drawn: weights of several processes are too large to be gathered")
    return
  params = processes.gathered(params)
  if processes.index() == 0:
    for hook in due:
      run.report(step, hook.fn(step, params))


def _leave_the_lost(error: Exception, where: str) -> NoReturn:
  """Ends this process without waiting for saves under way, which wait for the process that is gone."""
  processes.say(f"dalle: {processes.name()}{processes.lost(error, f'in {where}')}")
  processes.leave(PeerLost.exit_code)


@jax.jit
def _pass_over(state: State) -> State:
  """The state after a batch that is not looked at."""
  counters = {"step": state.step + 1, "skipped": state.skipped * 0, "skipped_total": state.skipped_total + 1}
  return state._replace(**counters)


def _on_all(tree: Any, mesh: Mesh) -> Any:
  """Arrays that all processes have, whole on every device."""
  whole = sharding.replicated(mesh)
  if not processes.several():
    return jax.device_put(tree, whole)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(whole, np.asarray(x)), tree)


def _begin_with(params: Any, state: State) -> State:
  if processes.several():
    params = jax.tree.map(
      lambda x, like: jax.device_put(x, like.sharding), processes.tree_by_first(params), state.params
    )
  ema = None if state.ema is None else jax.tree.map(jax.numpy.copy, params)
  return state._replace(params=params, ema=ema)


def _place(batch: Batch, accumulate: int, mesh: Mesh, rules: sharding.Rules) -> dict[str, jax.Array]:
  share = sharding.share(mesh, rules)
  for x in batch.values():
    whole, rest = divmod(x.shape[0] * share.of, len(share.parts))
    sharding.check_batch(whole if not rest else x.shape[0], accumulate, mesh, rules)
  return {key: sharding.place(x, share, mesh, rules) for key, x in batch.items()}


def _banner(state: State, mesh: Mesh, first: int, steps: int) -> str:
  count = sum(x.size for x in jax.tree.leaves(state.params))
  device = mesh.devices.flat[0]
  where = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
  come = f"going on from step {first}" if first else "from scratch"
  hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
  return f"{count:,} parameters on {mesh.size} {device.device_kind}{hosts} ({where}), {come} to step {steps}"


def _sizes(like: State) -> str:
  kinds = {"parameters": like.params, "optimizer": like.opt, "moving average": like.ema, "PowerSGD": like.reduce}
  bytes_of = {kind: sum(row.bytes_per_device for row in parameter_table.describe(tree)) for kind, tree in kinds.items()}
  return "on each device " + ", ".join(f"{kind} {size / 2**20:,.1f} MiB" for kind, size in bytes_of.items() if size)


def _close(data: Iterator[Batch]) -> None:
  """Ends the data's workers, where it has some."""
  close = getattr(data, "close", None)
  if close is not None:
    close()
