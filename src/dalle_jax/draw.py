"""Pictures of captions that a person types: drawn, ranked, written down."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dalle_jax import evaluate
from dalle_jax.data.captions import Tokenizer
from dalle_jax.errors import UserError
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.gallery import Sample, write_gallery
from dalle_jax.workdir import Workdir


def draw(
  workdir: Workdir,
  captions: Sequence[str],
  *,
  num: int,
  keep: int,
  sampling: SamplingConfig,
  seed: int,
  batch: int,
  out: Path,
  progress: Callable[[str, int, int], object] = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> Path:
  """Draws `num` pictures of each caption, writes the `keep` best by CLIP under `out`, and returns the page's path.

  say: told in a line what is cut off a long caption, that nothing ranks, or that a stage is not trained to its end.
  Raises UserError for a caption without a word, where the run has no weights, or `out` can't be written.
  """
  if out.exists() and not out.is_dir():
    raise UserError(f"cannot write pictures to {out}: it is a file; take another --out")
  words = workdir.tokenizer()
  text_CT = np.stack([_ids(words, caption, say) for caption in captions])
  drawer = evaluate.drawer(workdir, batch)
  for line in _caveats(workdir, keep, num):
    say(line)
  done, total = 0, num * len(captions)
  progress("drawing", 0, total)

  def tell(count: int) -> None:
    nonlocal done
    done += count
    progress("drawing", done, total)

  samples = [
    Sample(
      caption=captions[drawn.caption],
      caption_number=drawn.caption,
      sample=int(number),
      seed=seed,
      codes_N=drawn.codes_NP[number],
      score=None if drawn.scores_N is None else float(drawn.scores_N[number]),
      image_HWC=image_HWC,
    )
    for drawn in drawer.draw(text_CT, num=num, seed=seed, keep=keep, sampling=sampling, progress=tell)
    for number, image_HWC in zip(drawn.kept_K, drawn.images_KHWC)
  ]
  about = {
    "experiment": workdir.experiment().name,
    "samples a caption": num,
    "temperature": sampling.temperature,
    "top-k": sampling.top_k or "all",
    "top-p": sampling.top_p or 1,
    "seed": seed,
  }
  return write_gallery(out, samples, title="Drawn from captions", about=about)


def _caveats(workdir: Workdir, keep: int, num: int) -> list[str]:
  """What a person should know of the stages that draw and rank."""
  stages = {name: stage for name, stage in workdir.experiment().stages.items() if not stage.frozen}
  lines = [
    f"stage {name} is at step {step} of {stage.steps}: its training has not ended"
    for name, stage in stages.items()
    if 0 < (step := workdir.step(name)) < stage.steps
  ]
  ranks = any(
    isinstance(stage.objective, ClipContrastive) and (stage.frozen or workdir.step(name))
    for name, stage in workdir.experiment().stages.items()
  )
  if not ranks and keep < num:
    lines.append(f"no CLIP is trained in this run: the first {keep} of {num} pictures are kept, and not the best")
  return lines


def _ids(words: Tokenizer, caption: str, say: Callable[[str], object]) -> np.ndarray:
  """The caption's token ids. Raises UserError when there are none."""
  count, most = len(words.encode(caption)), words.cfg.length - 1
  if not count:
    raise UserError(f"the caption {caption[:40]!r} holds no word that can be read; wanted some text")
  if count > most:
    say(f"the caption {caption[:40]!r}... has {count} tokens; only the first {most} are read")
  return words.ids(caption)
