"""`dalle reference PICTURES --out FILE --inception WEIGHTS`: what FID and KID compare drawn pictures with."""

import dataclasses
import sys
from pathlib import Path

from dalle_jax.convert.published import INCEPTION
from dalle_jax.errors import UserError

USAGE = f"""\
usage: dalle reference PICTURES --out FILE.npz --inception WEIGHTS [--resize clean --features 2048 --batch 32]
                       [--crop PIXELS] [--blur 0] [--keep]

Writes mean and covariance of the pictures' Inception features, how many there were, and the protocol: what FID compares
drawn pictures with. PICTURES: a folder, or a prepared data set as DIR or DIR:SPLIT. WEIGHTS: what `dalle convert` made
of {INCEPTION.file}, or that file ({INCEPTION.size} MB), which is at
    {INCEPTION.url}

--resize    how pictures get to 299 pixels: clean (clean-fid), pytorch-fid or tensorflow
--features  64, 192, 768 or 2048 numbers of each picture
--crop      first the square in the middle, at so many pixels a side, as pictures are drawn
--blur      then blurred by this radius in pixels, for `dalle eval --blur`
--keep      keeps the features in FILE too, which KID wants
"""
WANTED = "wanted: dalle reference PICTURES --out FILE.npz --inception WEIGHTS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Makes what FID and KID compare drawn pictures with."""

  out: Path
  """A file that ends in .npz and is not there yet."""
  inception: Path | None = None
  """FID's Inception v3: the published file, or a directory of `dalle convert`."""
  resize: str = "clean"
  """How pictures get to 299 pixels: clean, pytorch-fid or tensorflow."""
  features: int = 2048
  """Numbers of each picture: 64, 192, 768 or 2048."""
  crop: int | None = None
  """First the square in the middle, at so many pixels a side; the whole picture if not said."""
  blur: float = 0.0
  """Radius in pixels by which pictures are blurred."""
  batch: int = 32
  """Pictures in the network at the same time."""

  def __post_init__(self) -> None:
    if self.blur < 0:
      raise UserError(f"got --blur {self.blur:g}, wanted 0 (none) or more")
    for name in ("crop", "batch"):
      if (value := getattr(self, name)) is not None and value < 1:
        raise UserError(f"got --{name} {value}, wanted at least 1")


def run(argv: list[str]) -> int:
  """Parses the flags, measures, prints what was found and the file. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  pictures, *rest = argv
  if pictures.startswith("-"):
    raise UserError(f"no pictures given, got {pictures} first; {WANTED}")
  keep = "--keep" in rest
  from dalle_jax.commands import flags

  given = flags.parse(Flags, [arg for arg in rest if arg != "--keep"], prog="dalle reference")
  _check(pictures, given)
  from dalle_jax import reference
  from dalle_jax.commands import progress
  from dalle_jax.evaluation import examples, frechet, picture_sets, resize
  from dalle_jax.evaluation import reference as files

  protocol = reference.Protocol(resize=resize.named(given.resize), dim=given.features, crop=given.crop, blur=given.blur)
  found = picture_sets.opened(pictures, lambda prepared: examples.held_out_split(prepared, None))
  network = reference.network(given.inception)
  with progress.shown() as tell:
    measured = reference.measure(network, found, protocol, batch=given.batch, keep=keep, tell=tell)
  told = protocol.told(network) | {"pictures": found.told() | {"pixels": measured.digest}}
  digest = files.save(given.out, measured.statistics, told, measured.features_ND)
  caveat = frechet.caveat(measured.statistics.pictures, given.features)
  if caveat:
    print(caveat, file=sys.stderr)
  print(f"{measured.statistics.pictures:,} pictures of {found} as {given.features} features, resize {given.resize}")
  print(f"SHA-256 {digest}\n\n{given.out}")
  return 0


def _check(pictures: str, given: Flags) -> None:
  """Raises UserError for what is not there, or is already, before anything that takes time is loaded."""
  from dalle_jax import places
  from dalle_jax.evaluation import reference

  if given.inception is None:
    raise UserError(f"no feature network given: --inception WEIGHTS, where WEIGHTS is {INCEPTION.url}")
  if not given.inception.exists():
    raise UserError(f"no Inception weights at {given.inception}: fetch {INCEPTION.url}, and name that file")
  reference.check(given.out)
  if not any(places.at(name).exists() for name in (pictures, pictures.rpartition(":")[0]) if name not in ("", "gs")):
    raise UserError(f"no pictures at {pictures}: wanted a folder, or a prepared data set as DIR or DIR:SPLIT")
