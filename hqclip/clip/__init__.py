"""CLIP for inference: a model by its name in, unit-length embeddings of images and texts out."""

from hqclip.clip.embeddings import ExportedClip, in_order
from hqclip.clip.towers import encode_text, fit, normalise

__all__ = ["ExportedClip", "encode_text", "fit", "in_order", "normalise"]
