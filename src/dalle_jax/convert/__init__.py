"""Weights of other projects, from the names and shapes of their files to our configurations and parameters."""
