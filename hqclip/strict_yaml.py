"""YAML that a person wrote in, plain values out. A key that is given twice is refused: YAML would keep the last.

YAML can name no code here.
"""

from __future__ import annotations

from typing import Any

from hqclip.errors import ConfigError, MissingSoftwareError
from hqclip.strict_json import is_deep
from hqclip.typed_json import TOO_DEEP


def read_yaml(source: str | bytes, where: str, *, as_written: bool = False) -> Any:
    """Values as YAML means them, or all of them as text, `as_written`, in which `<<` has no meaning.

    Raises `ConfigError` that begins with `where`.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingSoftwareError(f"{where}: {error}; install hqclip with its extra `launch`") from error

    class Strict(yaml.BaseLoader if as_written else yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [str(key.value) for key, _ in node.value]  # as written: `on` and `yes` are two, though both are true
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
            if as_written and "<<" in keys:
                raise yaml.constructor.ConstructorError(None, None, "write out what `<<` stands for", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        read = yaml.load(source, Strict)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no text, or no such day
        raise ConfigError(f"{where}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: {TOO_DEEP}") from error
    if is_deep(read):  # or an anchor holds itself
        raise ConfigError(f"{where}: {TOO_DEEP}")
    return read


def lines_of(source: str | bytes) -> dict[tuple[str, ...], int]:
    """The line, from 1, of each key of YAML that `read_yaml` takes, by the keys that lead to it, three at most."""
    import yaml

    found: dict[tuple[str, ...], int] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode) and len(path) < 3:
            for key, value in node.value:
                found[(*path, str(key.value))] = key.start_mark.line + 1
                walk(value, (*path, str(key.value)))

    walk(yaml.compose(source, yaml.SafeLoader), ())
    return found
