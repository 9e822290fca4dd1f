"""A rendered object in, the secrets that stand in it in clear out: where each is, and how it is given rightly.

All texts are looked at, of the job, its pods and every container: environment, annotations, labels, arguments, headers
of probes and whatever else a patch may bring. What is found is told by its name, and its value never.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from hqclip.known_secrets import is_said_secret, is_secret, secret_arguments
from hqclip.launch.patches import Json
from hqclip.launch.pod_security import every_container, pods_in
from hqclip.notify.config import SECRET_VARIABLES

TOLD = "looks like a secret, and who may read jobs reads it"


def is_secret_variable(name: str, value: str) -> bool:
    """Of the environment; some of our own are, whatever they look like."""
    return is_secret(name, value) or (name in SECRET_VARIABLES and bool(value) and not value.startswith("$"))


def secrets_in(body: Json) -> list[str]:
    """A sentence each, beginning with where it is: `container worker: env HF_TOKEN looks like a secret, ...`."""
    pods = list(pods_in(body))
    containers = [named for pod in pods for named in every_container(pod)]
    places = [("job", body), *(("pod", pod) for pod in pods), *containers]
    apart = {id(place) for _, place in places}
    found = [f"{where}: {told}" for where, place in places for told in _told(place, (), apart)]
    return list(dict.fromkeys(found))


def _told(thing: Any, path: tuple[str, ...], apart: Collection[int]) -> Iterator[str]:
    """Those below a thing, but for what has a name of its own."""
    if isinstance(thing, dict):
        paired = isinstance(thing.get("name"), str) and isinstance(thing.get("value"), str)
        if paired:
            yield from _pair(thing["name"], thing["value"], path)
        for name, value in thing.items():
            if isinstance(value, str) and not (paired and name == "value") and is_said_secret(str(name), value):
                at = "annotation" if path[-1:] == ("annotations",) else "label" if path[-1:] == ("labels",) else ""
                where = f"{at} {name}" if at else ".".join((*path, name))
                yield f"{where} {TOLD}; leave it out, or give it to the pods by secret_env NAME=SECRET/KEY"
    elif isinstance(thing, list):
        for name in secret_arguments([word for word in thing if isinstance(word, str)]):
            what = f"{'.'.join(path)} {name}".strip()
            yield f"{what} {TOLD}; give secret_env NAME=SECRET/KEY, and $(NAME) in its place"
    items = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for name, value in items:
        if id(value) not in apart:
            yield from _told(value, (*path, str(name)), apart)


def _pair(name: str, value: str, path: tuple[str, ...]) -> Iterator[str]:
    """A variable, a header, or what else has its name and value side by side."""
    if "env" in path and is_secret_variable(name, value):
        source = f"secret_env {name}=SECRET/KEY, or in a patch valueFrom.secretKeyRef in place of value"
        yield f"env {name} {TOLD}; give {source}"
    elif "env" not in path and is_said_secret(name, value):
        yield f"{'.'.join(path)} {name} {TOLD}; leave it out, or give it to the pods by secret_env NAME=SECRET/KEY"
