"""A dVAE's figures over a whole split: likelihood, bounds, PSNR, SSIM, codes in use, rFID."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from dalle_jax import config
from dalle_jax.errors import UserError
from dalle_jax.evaluation import frechet
from dalle_jax.evaluation.metrics import dvae
from dalle_jax.evaluation.metrics.figures import Figure
from dalle_jax.evaluation.metrics.networks import Networks
from dalle_jax.evaluation.metrics.of_pictures import statistics
from dalle_jax.evaluation.metrics.parts import Parts
from dalle_jax.evaluation.metrics.result import Measured
from dalle_jax.evaluation.metrics.ssim import WINDOW
from dalle_jax.measure.asked import DVAE, LIKELIHOOD
from dalle_jax.measure.run import Run, model_digest
from dalle_jax.measure.subsets import subsets
from dalle_jax.objectives.dvae import DvaeElbo


def check(run: Run) -> None:
  """Raises UserError for a figure that this dVAE, or so few pictures, have not."""
  name, stage = run.first_stage()
  cfg, wanted = stage.objective.model, run.asked.of(DVAE)
  bounds = [metric for metric in wanted if metric in LIKELIHOOD]
  if bounds and _temperature(stage) is None:
    raise UserError(
      f"got --metrics {bounds[0]}, and stage {name} was not trained by the published objective, whose these are: "
      f"leave {' and '.join(bounds)} out"
    )
  if "ssim" in wanted and cfg.image < WINDOW:
    raise UserError(
      f"ssim looks at {WINDOW}x{WINDOW} pixels, and the pictures have {cfg.image}x{cfg.image}: leave it out"
    )
  if "rfid" in wanted and (few := min(int(keep_N.sum()) for keep_N, _, _ in subsets(run))) < 2:
    raise UserError(f"rfid wants two pictures at least, got {few}: leave it out")


def measure(run: Run, networks: Networks) -> tuple[list[Measured], Parts]:
  """The figures asked for, and the parts that they are of."""
  name, stage = run.first_stage()
  wanted, temperature, cfg = run.asked.of(DVAE), _temperature(stage), stage.objective.model
  networks = networks if "rfid" in wanted else Networks()
  looks = "ssim" in wanted

  def compute(begin: int, end: int) -> dict[str, np.ndarray]:
    found: list[dict[str, np.ndarray]] = []
    for rows_B in run.devices.batches(end - begin, run.asked.batch):
      rows_B = begin + rows_B
      images_BHWC = run.read(rows_B, cfg.image).images_NHWC
      how = {"seed": run.asked.seed, "temperature": temperature, "similarity": looks, "devices": run.devices}
      how |= {} if temperature is None else _pixels(stage.objective)
      columns, decoded_BHWC = dvae.measure(stage.params, cfg, images_BHWC, rows_B, **how)
      if networks.inception is not None:
        columns |= {
          "decoded": networks.inception.look(decoded_BHWC)[0],
          "real": networks.inception.look(images_BHWC)[0],
        }
      found.append(columns)
    return {key: np.concatenate([each[key] for each in found])[: end - begin] for key in found[0]}

  facts = run.data_facts(cfg.image)
  own = {"what": "dvae", "weights": stage.digest, "model": model_digest(stage), "similarity": looks}
  own |= {"seed": run.asked.seed, "temperature": temperature}
  own |= {} if temperature is None else config.to_dict(_pixels(stage.objective))
  own |= {"inception": networks.inception and networks.inception.about}
  parts = run.measured(f"{name} on {run.split}", facts | own, len(run), compute)
  kept = ["squared_error", "codes", *(["ssim"] if looks else []), *([] if temperature is None else dvae.BOUNDS)]
  columns = {key: parts.column(key) for key in kept}
  about = facts | run.subject_facts(name)
  drawn = {"elb_hard": {"seed": run.asked.seed}, "elb_relaxed": {"seed": run.asked.seed, "temperature": temperature}}
  found = []
  for keep_N, mark, fact in subsets(run):
    for figure in dvae.figures({key: column[keep_N] for key, column in columns.items()}, cfg.vocab, wanted):
      found.append(Measured(figure=mark(figure), protocol=about | fact | drawn.get(figure.metric, {})))
    if networks.inception is not None:
      inception = {"inception": networks.inception.about, "reference": "the same pictures before they were encoded"}
      found.append(Measured(figure=mark(_rfid(parts, keep_N)), protocol=about | fact | inception))
  return found, parts


def _rfid(parts: Parts, keep_N: Bool[np.ndarray, " N"]) -> Figure:
  """Frechet distance of what the codes decode to from the pictures themselves."""
  decoded, real = (statistics(parts, name, keep_N) for name in ("decoded", "real"))
  note = frechet.caveat(decoded.pictures, decoded.dim, "rfid") or ""
  value = frechet.between(decoded, real)
  return Figure(metric="rfid", value=value, unit="", examples=decoded.pictures, note=note)


def _pixels(objective: DvaeElbo) -> dict[str, Any]:
  """How the objective takes the pixels' likelihood."""
  return {"likelihood": objective.likelihood, "spread_levels": objective.spread_levels}


def _temperature(stage: Any) -> float | None:
  """Of the relaxation where training stands; None where there is no relaxation."""
  return float(stage.objective.temperature(stage.step)) if isinstance(stage.objective, DvaeElbo) else None
