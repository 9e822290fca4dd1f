"""Settings that stand below flags: variables `HQCLIP_*`, then the project file `hqclip.yaml`, then a preset.

    store: gs://bucket/clip          for every command and pipeline that asks for a store; or HQCLIP_STORE
    preset: medium                   also: suite, shards, launch
    train: {batch_size: 8192}        of `hqclip train`, and of that stage in a cycle; or HQCLIP_TRAIN_BATCH_SIZE
    kfp: {host: https://kubeflow}    flags of `python -m pipelines`; or HQCLIP_KFP_HOST

The file is looked for in the working directory and its parents, up to a repository or the home folder. It holds no
secrets. What a task of a pipeline or a worker does is written in its plan, so neither reads anything of this.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hqclip import log
from hqclip.deprecated import SETTING, current
from hqclip.errors import ConfigError, NotFoundError
from hqclip.flags import CONFIG, SWITCHES
from hqclip.known_secrets import has_password, sounds_secret, without_password
from hqclip.presets import find_preset
from hqclip.settings import Settings, did_you_mean, read_overrides
from hqclip.stages import BY_HAND, CYCLE, HANDED_ON, STAGES, TRAINING
from hqclip.strict_yaml import lines_of, read_yaml

NAME, OFF, PREFIX = "hqclip.yaml", "none", "HQCLIP_"
SHARED = ("store", "suite", "shards", "preset", "launch")  # the same wherever they are asked for
CONNECTION = ("host", "ui", "namespace", "token_file", "cookie_file", "iap_client_id", "ca_file", "port_forward")
KFP, KFP_NAMES = "kfp", (*CONNECTION, "platform")
OTHERS = (("compare", "suite"), ("peek", "shards"))  # bear the name of something else: a digest, what to look at
OWN: Mapping[str, Mapping[str, str]] = {  # what a plan itself says of stages, which is said over all of this
    "plan": {
        "annotate_model": "annotate.model",
        "train_samples_seen": "train.samples_seen",
        "train_seed": "train.seed",
    },
    "sweep": {"seed": "train.seed"},
}
SWEPT = ("train", "evaluate")
OF_TRAINING = (  # of a plan, where something is trained
    "suite",
    *(name for name, dotted in OWN["plan"].items() if dotted.partition(".")[0] in TRAINING),
)
Sections = Mapping[str, type[Settings]]


class Value(NamedTuple):
    """A value and where it came from: a variable, file:line, or a preset."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Project:
    """What stands below the flags. `file` has values by section ("" for those that all share) and name."""

    path: Path | None
    file: Mapping[tuple[str, str], Value]

    def find(self, section: str, name: str) -> Value | None:
        """Of a section: its variable, the file, its preset; a section says more than what all share."""
        places = [(section, name), *([("", name)] if name in SHARED and (section, name) not in OTHERS else [])]
        for place in places:
            variable = _variable(*place)
            if said := os.environ.get(variable):
                return Value(said, variable)
        found = next((self.file[place] for place in places if place in self.file), None)
        return found or self._preset(section, name)

    def filed(self, section: str) -> dict[str, Any]:
        """What the file alone says of a section."""
        return {name: value.value for (where, name), value in self.file.items() if where == section}

    def under(self, section: str, kind: type[Settings], given: Mapping[str, Any]) -> dict[str, Any]:
        """What is given, over what stands below it, for the settings `kind` of a section.

        A command without a section of its own ("") takes the store alone. Settings of stages become overrides of a
        plan or sweep; those that are given win, one by one. Raises `ConfigError` for variables that are wrong, and if
        overrides that are given are no JSON object.
        """
        names = [name for name in _names(kind) if section or name == "store"]
        below = {name: value for name in names if name not in given and (value := self.find(section, name))}
        problems = [f"{v.origin}: {p}" for name, v in below.items() for p in kind.problems_with(name, v.value)]
        if problems:
            raise ConfigError("\n".join(problems))
        found = {name: value.value for name, value in below.items()} | dict(given)
        if _trains_nothing(found):
            found = {name: value for name, value in found.items() if name in given or name not in OF_TRAINING}
        if "overrides" in names and (of_stages := self._overrides(section, found)):
            found["overrides"] = json.dumps({**of_stages, **read_overrides(found.get("overrides", "{}"))})
        return found

    def _overrides(self, section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        stages: tuple[str, ...] = SWEPT if section == "sweep" else CYCLE
        if _trains_nothing(settings):
            stages = tuple(stage for stage in stages if stage not in TRAINING)
        names = [(stage, name) for stage in stages for name in _names(STAGES[stage].settings)]
        variables = {
            place: Value(text, _variable(*place)) for place in names if (text := os.environ.get(_variable(*place)))
        }
        problems = [
            f"{value.origin}: {problem}"
            for (stage, name), value in variables.items()
            for problem in STAGES[stage].settings.problems_with(name, value.value)
        ]
        if problems:
            raise ConfigError("\n".join(problems))
        said = {
            f"{stage}.{name}": value.value
            for (stage, name), value in {**self.file, **variables}.items()
            if stage in stages and name not in HANDED_ON
        }
        for name in BY_HAND:
            if said.pop(name, None):
                stage, _, setting = name.partition(".")
                _leave_out(section, name, (variables.get((stage, setting)) or self.file[stage, setting]).origin)
        own = {dotted for name, dotted in OWN[section].items() if name in settings} if section in OWN else set()
        trials = str(settings.get("trials", "")) if section == "sweep" else ""
        return {name: value for name, value in said.items() if name not in own and f'"{name}"' not in trials}

    def _preset(self, section: str, name: str) -> Value | None:
        """A cycle applies its preset itself; a stage alone has one only where one is chosen for the project."""
        if section not in CYCLE or not (chosen := self.find("", "preset")):
            return None
        values = find_preset(str(chosen.value)).get(section, {})
        return Value(values[name], f"preset {chosen.value}") if name in values else None


def _trains_nothing(settings: Mapping[str, Any]) -> bool:
    return str(settings.get("data_only", "")).lower() in ("true", "1", "yes")


@functools.cache  # once, though a command may ask several times
def _leave_out(section: str, name: str, origin: str) -> None:
    log.info(section, f"{origin}: {name} is for `hqclip {name.partition('.')[0]}` by hand, and left out here")


def load(sections: Sections) -> Project:
    """The project file that holds here, checked against all that is known.

    Raises `ConfigError` that lists file and line of all that is wrong, and `NotFoundError` if a file that was named is
    not there.
    """
    path = find_file()
    if path is None:
        return Project(None, {})
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"{CONFIG} (--config) names {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    document = read_yaml(source, str(path))
    if document is None:
        return Project(path, {})
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: give a mapping of settings, such as `store: gs://bucket/clip`")
    lines = lines_of(source)
    found: dict[tuple[str, str], Value] = {}
    problems = []
    for keys, value in _entries(document):
        where = f"{path}:{lines.get(keys, 1)}"
        section, name = keys if len(keys) == 2 else ("", keys[0])
        if section in sections:
            name = current(SETTING, name, known_names(sections)[section])
        twice = f"{section}.{name} is given twice, by two of its names" if (section, name) in found else ""
        if problem := twice or _problem(section, name, value, sections):
            problems.append(f"{where}: {problem}")
        found[section, name] = Value(value, where)
    if problems:
        raise ConfigError("\n".join(problems))
    return Project(path, found)


def find_file() -> Path | None:
    """The file that --config or HQCLIP_CONFIG names, or the nearest one above the working directory; None for none."""
    if named := os.environ.get(CONFIG):
        return None if named == OFF else Path(named)
    home = os.environ.get("HOME", "")  # in a container nobody may have one
    for folder in (here := Path.cwd(), *here.parents):
        if _is_there(folder / NAME):
            return folder / NAME
        if str(folder) == home or _is_there(folder / ".git"):
            return None
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that is not ours to look into
        return False


def known_names(sections: Sections) -> dict[str, tuple[str, ...]]:
    """All names that the file may have, by section."""
    return {"": SHARED, **{section: _names(kind) for section, kind in sections.items()}, KFP: KFP_NAMES}


def shown(value: Any) -> Any:
    """A value as it may be shown: passwords in addresses are left out."""
    return without_password(value) if isinstance(value, str) else value


def _entries(document: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from (((str(key), str(name)), inner) for name, inner in value.items())
        elif value is not None:  # an empty section
            yield (str(key),), value


def _problem(section: str, name: str, value: Any, sections: Sections) -> str:
    """What is wrong with one entry; a value that may be a secret is not said."""
    known = known_names(sections)
    dotted = f"{section}.{name}" if section else name
    if section not in known:
        return f"unknown section {section!r}{did_you_mean(section, [*known][1:])}"
    if name not in known[section]:
        if sounds_secret(name):
            return f"{dotted}: secrets are never in this file; give {_variable(section, name)} in the environment"
        names = known[section] if section else (*SHARED, *[*known][1:])
        return f"unknown setting {dotted!r}{did_you_mean(name, names)}"
    if any(has_password(str(one)) for one in (value if isinstance(value, list) else [value])):
        return f"{dotted} has a password in it; secrets are never in this file"
    if section in sections or not section:
        kind = sections[section] if section else next(k for k in sections.values() if name in _names(k))
        return "; ".join(kind.problems_with(name, value, f"{section}." if section else ""))
    return "" if isinstance(value, str) else f"{dotted} must be text, got {value!r}"


def _names(kind: type[Settings]) -> tuple[str, ...]:
    """All but switches: what deletes is said each time."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.name not in SWITCHES)


def _variable(section: str, name: str) -> str:
    return PREFIX + "_".join(filter(None, (section, name))).upper()
