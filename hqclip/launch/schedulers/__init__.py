"""One file a scheduler, with all that is particular to it; `protocol.py` says what one must know."""
