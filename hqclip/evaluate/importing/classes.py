"""Files of class names and of prompts in, what a classification takes out."""

from __future__ import annotations

from hqclip.errors import NotFoundError
from hqclip.evaluate.importing.source import Source

CLASSES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"


def read_classes(source: Source) -> list[str]:
    """One a line, in the order of their numbers. Raises `NotFoundError` or `DataError`."""
    return _lines(source, CLASSES, source.config.classes, "classes")


def read_templates(source: Source) -> list[str]:
    """Prompts with `{}` for the name of the class; published files have `{c}`."""
    return [line.replace("{c}", "{}") for line in _lines(source, TEMPLATES, source.config.templates, "templates")]


def _lines(source: Source, name: str, given: str, flag: str) -> list[str]:
    if not given and not source.has(name):
        raise NotFoundError(f"{source.folder}/{name} does not exist; add it, or give such a file with --{flag}")
    return source.lines(name, given)
