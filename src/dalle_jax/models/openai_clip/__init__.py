"""The published CLIP: towers whose weights are files that a user names (Radford et al. 2021)."""

from dalle_jax.models.openai_clip.config import Config, ResNet, Stack, Text, VisionTransformer
from dalle_jax.models.openai_clip.towers import encode_images, encode_texts, scale, unit

__all__ = ["Config", "ResNet", "Stack", "Text", "VisionTransformer", "encode_images", "encode_texts", "scale", "unit"]
