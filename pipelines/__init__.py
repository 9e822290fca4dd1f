"""Composition only: components joined into pipelines, and `python -m pipelines` to compile and run them."""
