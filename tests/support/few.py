"""Flags with which all stages of the demo end within a minute."""

FEW = (
  *("--stages.dvae.objective.patches_from", "60", "--stages.dvae.objective.model.vocab", "64"),
  *("--stages.transformer.objective.model.image_vocab", "64", "--stages.clip.objective.dvae.vocab", "64"),
  *("--dvae-steps", "2", "--transformer-steps", "2", "--clip-steps", "2"),
)
