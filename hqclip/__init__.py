"""HQ-CLIP as a Kubeflow-native pipeline package: refine image-text data with an LVLM, train CLIP on it."""

__version__ = "0.1.0"
