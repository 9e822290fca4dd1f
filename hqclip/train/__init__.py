"""Training CLIP with negative descriptions and tags as further supervision."""
