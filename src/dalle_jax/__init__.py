"""dalle_jax: DALL·E (2021) in JAX/Flax. Import the submodule you need; nothing heavy is imported here."""

__version__ = "0.1.0"
