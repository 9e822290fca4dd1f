"""The shapes world: a small world that is known exactly, drawn as the web would show it."""
