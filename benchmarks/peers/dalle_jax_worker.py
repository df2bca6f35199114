"""Times dalle_jax when asked; runs in .venv. See compare.py for the protocol."""

import json
import sys

from dalle_jax import allocator, bench


def answer(request, built):
  """Builds what is asked for unless the last request asked for the same, runs it, and reports."""
  if built.get("request") != request:
    built.clear()
    kinds = tuple(request["kinds"])
    shape = bench.Shape(**request["shape"], mix=kinds, last=None, kernel=request.get("kernel", 11))
    steps = request["bench"] == "train-step"
    timer = bench.train_step_timer(shape) if steps else bench.sample_timer(shape)
    timer()  # compiles
    built.update(request=request, timer=timer, shape=shape, calls=1 if steps else shape.grid**2)
  return {"seconds": built["timer"]() / built["calls"], "parameters": bench.parameters(built["shape"])}


def main():
  """Answers JSON lines on stdin by JSON lines on stdout."""
  allocator.keep_freed_memory()  # as the `dalle` command does
  print(json.dumps({"versions": bench.versions()}), flush=True)
  built = {}
  for line in sys.stdin:
    print(json.dumps(answer(json.loads(line), built)), flush=True)


if __name__ == "__main__":
  main()
