"""Sparse attention over a stream of text and image tokens: one pattern type, one function."""

from dalle_jax.ops.sparse_attention import decode, decode_text, given_text
from dalle_jax.ops.sparse_attention.attend import attend
from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.reference import attention_weights

__all__ = ["Pattern", "attend", "attention_weights", "decode", "decode_text", "given_text"]
