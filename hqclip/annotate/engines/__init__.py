"""What runs the LVLM: a protocol, a registry, and one file an engine."""
