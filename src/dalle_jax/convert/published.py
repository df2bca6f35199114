"""Weights that are published elsewhere and asked for here: the file's name, and where it comes from."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
  """url: where the file is fetched; size: roughly, in MB."""

  file: str
  url: str
  size: int


INCEPTION = Published(
  "pt_inception-2015-12-05-6726825d.pth",
  "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
  91,
)
