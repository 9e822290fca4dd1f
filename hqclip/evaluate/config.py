"""What the commands about suites may be told: flags come from here."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.settings import Settings, setting

SUITE = "a suite.json, or the folder that it is in; local or gs://"
LAYOUTS = (
    "clip_benchmark",
    "image_folder",
    "captions",
    "sugarcrepe",
    "aro",
    "winoground",
    "valse",
    "mmvp",
    "urban1k",
    "winogavil",
)


@dataclass(frozen=True, kw_only=True)
class SuiteImportConfig(Settings):
    """Add a set that others have published to a suite, or make the suite of it: images as they are, checked."""

    suite: str = setting(f"suite to add to, made if it is not there: {SUITE}")
    source: str = setting("what to import: a folder, or the file of captions or questions; local or gs://")
    name: str = setting("what the set is called in the suite, e.g. imagenet")
    layout: str = setting("how the source is laid out", "clip_benchmark", choices=LAYOUTS)
    images: str = setting(
        "images that the source names: a folder, {0..9}.tar or a glob of tars; empty is where its layout has them",
        "",
    )
    split: str = setting("part of the source that is taken, where it has several", "test")
    classes: str = setting("file of class names, one a line; empty takes that of the source", "")
    templates: str = setting("file of prompts with {c} or {} for the class name; empty takes that of the source", "")
    main: str = setting(
        "metric that counts in averages, such as f1_macro; empty takes DataComp's, or that of the kind", ""
    )
    licence: str = setting("note on the licence, kept in suite.json", "")
    limit: int = setting("items to take at most, for a smoke test; 0 takes all", 0, minimum=0)
    skip_missing: bool = setting("leave out and count what is not there or cannot be used, instead of refusing", False)


@dataclass(frozen=True, kw_only=True)
class SuiteShowConfig(Settings):
    """The sets of a suite: kind, items, classes, captions, size, licence and digest."""

    suite: str = setting(SUITE)


@dataclass(frozen=True, kw_only=True)
class SuiteCheckConfig(Settings):
    """Read all of a suite, every image included, and say what is wrong."""

    suite: str = setting(SUITE)
