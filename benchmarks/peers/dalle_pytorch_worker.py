"""Times DALLE-pytorch when asked; runs in .venv-peers. See compare.py for the protocol.

As shipped, `generate_images(use_cache=True)` drops the cache at its default cond_scale of 1, and recomputes the whole
sequence for every token. `Peer` below passes the cache on, and asks for `optimize_for_inference`, which gives the axial
layers a cache: the fastest that its own code can do. Where there is an NVIDIA GPU the training step runs there, under
autocast to bfloat16, with weights in float32.
"""

import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import sys
import time
import types
import warnings

warnings.filterwarnings("ignore", category=UserWarning)
taming = types.ModuleType("taming.models.vqgan")  # DALLE-pytorch imports it for a VAE that is not used here
taming.VQModel = taming.GumbelVQ = object
sys.modules.update({"taming": taming, "taming.models": taming, "taming.models.vqgan": taming})


import torch  # noqa: E402
from dalle_pytorch import DALLE, DiscreteVAE  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Enough(Exception):
  """Ends a drawing after as many tokens as are timed."""


class Peer(DALLE):
  """DALLE that notes when each token begins, and passes its cache on where `repaired`."""

  def start(self, *, repaired, tokens):
    self.repaired, self.tokens, self.begun, self.inside = repaired, tokens, [], []

  def forward_with_cond_scale(self, *args, cond_scale=1, cache=None, **kwargs):
    self.begun.append(time.perf_counter())
    if len(self.begun) > self.tokens:
      raise Enough
    if self.repaired and cond_scale == 1:
      logits = self(*args, cache=cache, **kwargs)
    else:
      logits = super().forward_with_cond_scale(*args, cond_scale=cond_scale, cache=cache, **kwargs)
    self.inside.append(time.perf_counter() - self.begun[-1])
    return logits


def build(shape, types_, **options):
  """The model of the sizes asked for, and its parameters (the VAE's not counted)."""
  torch.manual_seed(0)
  vae = DiscreteVAE(image_size=8 * shape["grid"], num_tokens=shape["image_vocab"], num_layers=3, hidden_dim=8)
  model = Peer(
    dim=shape["dim"],
    depth=shape["layers"],
    heads=shape["heads"],
    dim_head=shape["dim"] // shape["heads"],
    text_seq_len=shape["text"],
    num_text_tokens=shape["text_vocab"],
    attn_types=tuple(types_),
    vae=vae,
    **options,
  )
  return model, [p for p in model.parameters() if p.requires_grad]


def train_step(shape, types_):
  """A call is a training step like that of its train_dalle.py: loss, gradient, clipping at 0.5, Adam."""
  model, parameters = build(shape, types_)
  model.to(DEVICE)
  optimizer = torch.optim.Adam(parameters, lr=3e-4)
  text = torch.randint(1, shape["text_vocab"], (shape["batch"], shape["text"]), device=DEVICE)
  codes = torch.randint(0, shape["image_vocab"], (shape["batch"], shape["grid"] ** 2), device=DEVICE)
  model.train()

  def call(count=1):
    del count
    begin = time.perf_counter()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
      loss = model(text, codes, return_loss=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    optimizer.step()
    optimizer.zero_grad()
    loss.item()
    return {"seconds": time.perf_counter() - begin}

  return call, parameters


def sample(shape, types_, *, repaired, tokens):
  """A call draws the first `count` tokens; seconds are the mean of a token, the first with its prompt included."""
  model, parameters = build(shape, types_, optimize_for_inference=repaired)
  model.vae.decode = lambda codes: codes  # pixels are not timed on either side
  text = torch.randint(1, shape["text_vocab"], (1, shape["text"])).repeat(shape["batch"], 1)

  def call(count=tokens):
    model.start(repaired=repaired, tokens=count)
    try:
      model.generate_images(text.clone(), use_cache=True)
      model.begun.append(time.perf_counter())
    except Enough:
      pass
    begun = model.begun
    each = [after - before for before, after in itertools.pairwise(begun)]
    found = {"median_token_s": statistics.median(each), "network_s": sum(model.inside) / count}
    return {"seconds": (begun[-1] - begun[0]) / count} | found

  return call, parameters


def answer(request, built):
  """Builds what is asked for unless the last request asked for the same, runs it, and reports."""
  if built.get("request") != request:
    built.clear()
    kinds, shape = request["kinds"], request["shape"]
    if request["bench"] == "train-step":
      call, parameters = train_step(shape, kinds)
    else:
      call, parameters = sample(shape, kinds, repaired=request["repaired"], tokens=request["tokens"])
    call(count=2)  # not counted
    built.update(request=request, call=call, parameters=sum(p.numel() for p in parameters))
  return built["call"]() | {"parameters": built["parameters"]}


def main():
  """Answers JSON lines on stdin by JSON lines on stdout."""
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  names = ("torch", "dalle-pytorch", "rotary-embedding-torch", "einops", "numpy")
  versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
  print(json.dumps({"versions": versions}), flush=True)
  built = {}
  for line in sys.stdin:
    print(json.dumps(answer(json.loads(line), built)), flush=True)


if __name__ == "__main__":
  main()
