"""What a cycle or sweep may spend: refused before it begins, counted as it goes, stopped when it is too much."""
