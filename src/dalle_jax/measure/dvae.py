"""A dVAE's figures over a whole split: likelihood, bounds, PSNR, SSIM, codes in use, rFID."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from dalle_jax.errors import UserError
from dalle_jax.evaluation import frechet
from dalle_jax.evaluation.metrics import dvae
from dalle_jax.evaluation.metrics.figures import Figure
from dalle_jax.evaluation.metrics.networks import Networks
from dalle_jax.evaluation.metrics.of_pictures import statistics
from dalle_jax.evaluation.metrics.parts import Parts, measured
from dalle_jax.evaluation.metrics.result import Measured
from dalle_jax.measure.asked import DVAE, LIKELIHOOD
from dalle_jax.measure.run import Run
from dalle_jax.measure.subsets import subsets
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.first_stage import FirstStage


def measure(run: Run, networks: Networks) -> tuple[list[Measured], Parts]:
  """The figures asked for, and the parts that they are of. Raises UserError for one that this dVAE has not."""
  name, stage = run.stage(FirstStage, what="dVAE")
  wanted, temperature = run.asked.of(DVAE), _temperature(stage)
  if temperature is None and (bounds := [metric for metric in wanted if metric in LIKELIHOOD]):
    raise UserError(
      f"got --metrics {bounds[0]}, and stage {name} has no likelihood of pixels: it is a VQGAN, or was trained by "
      f"squared error; leave {' and '.join(bounds)} out"
    )
  cfg = stage.objective.model
  facts = run.data_facts(cfg.image) | {"seed": run.asked.seed, "temperature": temperature}
  networks = networks if "rfid" in wanted else Networks()
  own = {"what": "dvae", "weights": stage.digest, "inception": networks.inception and networks.inception.about}

  def compute(begin: int, end: int) -> dict[str, np.ndarray]:
    found: list[dict[str, np.ndarray]] = []
    for rows_B in run.devices.batches(end - begin, run.asked.batch):
      rows_B = begin + rows_B
      images_BHWC = run.read(rows_B, cfg.image).images_NHWC
      how = {"seed": run.asked.seed, "temperature": temperature, "devices": run.devices}
      columns, decoded_BHWC = dvae.measure(stage.params, cfg, images_BHWC, rows_B, **how)
      if networks.inception is not None:
        columns |= {
          "decoded": networks.inception.look(decoded_BHWC)[0],
          "real": networks.inception.look(images_BHWC)[0],
        }
      found.append(columns)
    return {key: np.concatenate([each[key] for each in found])[: end - begin] for key in found[0]}

  parts = measured(
    run.out / "parts",
    facts | own,
    len(run),
    compute,
    size=part_size(run),
    progress=run.tell(f"dVAE on {run.split}", len(run)),
  )
  kept = [
    each
    for each in ("squared_error", "codes", "ssim", *dvae.BOUNDS)
    if temperature is not None or each not in dvae.BOUNDS
  ]
  columns = {key: parts.column(key) for key in kept}
  about = facts | run.subject_facts(name)
  found = []
  for keep_N, excluded, fact in subsets(run):
    for figure in dvae.figures({key: column[keep_N] for key, column in columns.items()}, cfg.vocab, wanted):
      found.append(Measured(figure=excluded(figure), protocol=about | fact))
    if networks.inception is not None:
      own = {"inception": networks.inception.about, "reference": "the same pictures before they were encoded"}
      found.append(Measured(figure=excluded(_rfid(parts, keep_N)), protocol=about | fact | own))
  return found, parts


def _rfid(parts: Parts, keep_N: Bool[np.ndarray, " N"]) -> Figure:
  """Frechet distance of what the codes decode to from the pictures themselves."""
  decoded, real = (statistics(parts, name, keep_N) for name in ("decoded", "real"))
  note = frechet.caveat(decoded.pictures, decoded.dim) or ""
  value = frechet.between(decoded, real)
  return Figure(metric="rfid", value=value, unit="", examples=decoded.pictures, note=note)


def part_size(run: Run) -> int:
  """Examples of a part: some batches, so that no more is lost than a minute or so."""
  return max(run.asked.batch, 256 // run.asked.batch * run.asked.batch)


def _temperature(stage: Any) -> float | None:
  """Of the relaxation where training stands; None where the objective has no likelihood."""
  return float(stage.objective.temperature(stage.step)) if isinstance(stage.objective, DvaeElbo) else None
