"""The transformer's losses over a whole split, teacher-forced, in nats a token and a dimension."""

import numpy as np

from dalle_jax.evaluation.metrics import transformer
from dalle_jax.evaluation.metrics.parts import Parts
from dalle_jax.evaluation.metrics.result import Measured
from dalle_jax.measure.run import Run, model_digest
from dalle_jax.measure.subsets import subsets
from dalle_jax.models import image_tokenizer
from dalle_jax.models.transformer import in_compute_dtype

COLUMNS = ("text", "text_no_pads", "words", "image")


def measure(run: Run) -> tuple[list[Measured], Parts]:
  """The losses of every picture with its first caption, and the parts that they are of."""
  name, stage = run.transformer(draws=False)
  dvae_name, vae = run.first_stage()
  cfg, pictures = stage.objective.model, vae.objective.model
  params = in_compute_dtype(stage.params, cfg)
  # Nats a token of other tokens are other numbers, so both tokenizers are among the facts.
  facts = run.data_facts(pictures.image) | {
    "caption": "the first",
    "tokenizer": {"sha256": run.tokenizer_digest(), "tokens": cfg.text},
    "codes": {"sha256": vae.digest, "of a picture": cfg.grid**2},
    "order": cfg.order,
    "dtype": cfg.dtype,
  }

  def compute(begin: int, end: int) -> dict[str, np.ndarray]:
    found = []
    for rows_B in run.devices.batches(end - begin, run.asked.batch):
      batch = run.read(begin + rows_B, pictures.image)
      codes_Bhw = np.asarray(image_tokenizer.encode_images(vae.params, pictures, run.devices.put(batch.images_NHWC)))
      codes_BP = codes_Bhw.reshape(len(rows_B), -1)
      found.append(transformer.measure(params, cfg, batch.text_NT, codes_BP, run.devices))
    return {key: np.concatenate([each[key] for each in found])[: end - begin] for key in found[0]}

  own = {"what": "transformer", "weights": stage.digest, "model": model_digest(stage)}
  parts = run.measured(f"{name} on {run.split}", facts | own, len(run), compute)
  columns = {key: parts.column(key) for key in COLUMNS}
  objective, about = stage.objective, facts | run.subject_facts(name, dvae_name)
  weights = {"text_weight": objective.text_weight, "image_weight": objective.image_weight}
  how = {**weights, "pad_targets": objective.pad_targets, "dimensions": pictures.image**2 * 3}
  found = []
  for keep_N, excluded, fact in subsets(run):
    for figure in transformer.figures({key: column[keep_N] for key, column in columns.items()}, cfg, **how):
      more = {"loss weights": weights | {"pads": objective.pad_targets}} if figure.metric == "loss" else {}
      found.append(Measured(figure=excluded(figure), protocol=about | fact | more))
  return found, parts
