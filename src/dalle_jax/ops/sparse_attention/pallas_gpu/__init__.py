"""Attention under a pattern as kernels for Hopper's GPUs, forward and backward, through Pallas's Mosaic GPU.

A program is one warpgroup that copies and several that compute, each with its own block of 64 positions. Blocks of keys
(of queries, for the gradients of keys) pass through a ring in shared memory: first the text, which every image position
sees, then the window of the pattern's rows. What a worker needs of them is arithmetic on the number of its block
(`stream`); which scores of a block count is one of a few additive masks that all positions share (`spec`).
"""

from dalle_jax.ops.sparse_attention.pallas_gpu.attend import attend, unserved
from dalle_jax.ops.sparse_attention.pallas_gpu.program import hopper

__all__ = ["attend", "hopper", "unserved"]
