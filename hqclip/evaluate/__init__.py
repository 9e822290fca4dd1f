"""Judging a model zero-shot: a suite of benchmarks in, one evaluation out."""
