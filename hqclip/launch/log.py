"""What a launcher says while it works."""

import sys


def say(text: str) -> None:
    """A line about the launch on stderr."""
    print(f"hqclip launch: {text}", file=sys.stderr, flush=True)
