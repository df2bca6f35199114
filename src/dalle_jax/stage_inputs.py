"""What a stage of a run reads, and what it begins with: its tokenizer, its examples, its first weights."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dalle_jax import processes, stage_codes
from dalle_jax.data import captions, codes, near_misses, pipeline, views
from dalle_jax.data.captions import Tokenizer
from dalle_jax.data.images import CentreCrop
from dalle_jax.data.prepared import Prepared
from dalle_jax.experiment import Codes, Experiment, Pictures, Stage
from dalle_jax.objectives import codebook
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.workdir import Workdir, taken

# Examples whose captions the tokenizer and the near misses are learnt from; their order is random already.
MOST_CAPTIONS, MOST_FOR_MISSES = 1_000_000, 50_000


def reads_text(stage: Stage) -> bool:
  """Whether a stage's examples have captions."""
  return isinstance(stage.examples, Codes) or stage.examples.captions


def train_tokenizer(prepared: Prepared, split: str, experiment: Experiment) -> bytes:
  """The tokenizer of the split's captions, as a file's bytes."""
  source = prepared.source(split)
  texts = (text for _, each in zip(range(MOST_CAPTIONS), source.captions()) for text in each)
  return captions.train(texts, experiment.tokenizer)


def warn_of_truncation(name: str, prepared: Prepared, split: str, words: Tokenizer) -> None:
  """Says how many captions are cut off at their end, of the first ten thousand examples."""
  most = words.cfg.length - 1
  texts = [text for _, each in zip(range(10_000), prepared.source(split).captions()) for text in each]
  cut = sum(len(words.encode(text)) > most for text in texts)
  if cut:
    processes.say_once(
      f"{name}: {cut:,} of {len(texts):,} captions have more than {most} tokens and are cut off at their end"
    )


def examples(
  stage: Stage, words: Tokenizer | None, workdir: Workdir, prepared: Prepared, split: str
) -> tuple[Any, pipeline.View]:
  """What the stage reads, and how it sees it."""
  seed = workdir.experiment().seed
  misses = _near_misses(prepared, split, words) if stage.examples.near_misses else None
  if isinstance(stage.examples, Codes):
    found = processes.by_first(lambda: stage_codes.made(stage.examples, workdir, prepared))
    if found is None and stage.examples.dir is None:
      workdir.fetch("codes")
    source = (found or codes.open_codes(stage.examples.dir or workdir.codes)).source(split)
    return source, views.CodesView(tokenizer=words, near_misses=misses, drop_captions=stage.examples.drop_captions)
  own: Pictures = stage.examples
  read = {"tokenizer": words, "near_misses": misses, "drop_captions": own.drop_captions}
  view = views.PictureView(crop=own.crop, crops=own.crops, seed=seed, **read)
  return prepared.source(split), view


def _near_misses(prepared: Prepared, split: str, words: Tokenizer) -> near_misses.NearMisses:
  """What stands for what in the training split's captions."""
  examples = zip(range(MOST_FOR_MISSES), prepared.source(split).captions())
  return near_misses.learn((words.encode(text) for _, each in examples for text in each), words.cfg.vocab)


def first_weights(name: str, workdir: Workdir, prepared: Prepared, split: str) -> Callable[[Any], Any] | None:
  """What a stage's parameters begin with, where not at random: another run's, or a codebook of the data's patches."""
  stage, seed = workdir.experiment().stage(name), workdir.experiment().seed
  if stage.from_ is not None:
    return lambda params: taken(name, stage, params)[0]
  if not isinstance(stage.objective, PatchDvae):
    return None
  model, source = stage.objective.model, prepared.source(split)
  rows = np.random.default_rng(seed).permutation(len(source))[: stage.objective.patches_from]
  crop = CentreCrop(size=model.image)
  images_NHWC = np.stack([crop(source[int(row)]["image"], np.random.default_rng(0)) for row in rows])

  def start(params: Any) -> Any:
    processes.say_once(f"{name}: looking for {model.vocab:,} kinds of patches in {len(rows):,} pictures")
    return codebook.start(params, model, images_NHWC, seed=seed)

  return start
