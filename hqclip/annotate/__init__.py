"""Images with alt-text in, four texts each out: prompts, engines, answers, the worker."""
