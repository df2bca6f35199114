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
  96,
)
CLIP = Published(
  "ViT-B-32.pt",
  "https://openaipublic.azureedge.net/clip/models/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
  354,
)
CLIP_WORDS = Published(
  "bpe_simple_vocab_16e6.txt.gz",
  "https://github.com/openai/CLIP/raw/main/clip/bpe_simple_vocab_16e6.txt.gz",
  1,
)
