"""What vqgan-jax computes, in plain PyTorch, of the arrays that it keeps: an oracle, as it is on no package index.

Written from its published names, shapes and order of layers. Arrays are by Flax's names joined by points, kernels HWIO,
pictures BCHW.
"""

import official


class Oracle:
  """Encodes and decodes with arrays by name, of `levels` levels."""

  def __init__(self, arrays, levels, blocks):
    self.torch = official.load("torch")
    self.arrays, self.levels, self.blocks = arrays, levels, blocks

  def get(self, name):
    return self.torch.from_numpy(self.arrays[name])

  def conv(self, name, x, **options):
    kernel = self.get(f"{name}.kernel").permute(3, 2, 0, 1)
    options = options or {"padding": kernel.shape[-1] // 2}
    return self.torch.nn.functional.conv2d(x, kernel, self.get(f"{name}.bias"), **options)

  def norm(self, name, x):
    scale, bias = (self.get(f"{name}.{leaf}").reshape(-1) for leaf in ("scale", "bias"))
    return self.torch.nn.functional.group_norm(x, 32, scale, bias, eps=1e-6)

  def norm_swish(self, name, x):
    return self.torch.nn.functional.silu(self.norm(name, x))

  def residual(self, name, x):
    y = self.conv(f"{name}.conv1", self.norm_swish(f"{name}.norm1", x))
    y = self.conv(f"{name}.conv2", self.norm_swish(f"{name}.norm2", y))
    return y + (self.conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.kernel" in self.arrays else x)

  def attention(self, name, x):
    b, c, h, w = x.shape
    y = self.norm(f"{name}.norm", x)
    q, k, v = (self.conv(f"{name}.{each}", y).flatten(2).transpose(1, 2) for each in "qkv")
    read = self.torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return x + self.conv(f"{name}.proj_out", read.transpose(1, 2).reshape(b, c, h, w))

  def level(self, name, x, blocks):
    for i in range(blocks):
      x = self.residual(f"{name}.block_{i}", x)
      for j in range(blocks):
        if f"{name}.attn_{j}.q.kernel" in self.arrays:
          x = self.attention(f"{name}.attn_{j}", x)
    return x

  def middle(self, name, x):
    return self.residual(f"{name}.block_2", self.attention(f"{name}.attn_1", self.residual(f"{name}.block_1", x)))

  def latents(self, x):
    x = self.conv("encoder.conv_in", x)
    for i in range(self.levels):
      x = self.level(f"encoder.down_{i}", x, self.blocks)
      if i < self.levels - 1:
        padded = self.torch.nn.functional.pad(x, (0, 1, 0, 1))
        x = self.conv(f"encoder.down_{i}.downsample.conv", padded, stride=2)
    x = self.norm_swish("encoder.norm_out", self.middle("encoder.mid", x))
    return self.conv("quant_conv", self.conv("encoder.conv_out", x))

  def codes(self, z):
    b, _, h, w = z.shape
    distance = self.torch.cdist(z.flatten(2).transpose(1, 2), self.get("quantize.embedding.embedding")[None])
    return distance.argmin(-1).reshape(b, h, w)

  def decode(self, codes):
    x = self.get("quantize.embedding.embedding")[codes].permute(0, 3, 1, 2)
    x = self.conv("decoder.conv_in", self.conv("post_quant_conv", x))
    x = self.middle("decoder.mid", x)
    for i in reversed(range(self.levels)):
      x = self.level(f"decoder.up_{i}", x, self.blocks + 1)
      if i:
        x = self.conv(f"decoder.up_{i}.upsample.conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    return self.conv("decoder.conv_out", self.norm_swish("decoder.norm_out", x))
