"""A chain of cycles in, a tree for people out: each with its model, data set, annotator and pool."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from hqclip.cycle.links import Gone, Link
from hqclip.foreign_text import inert
from hqclip.provenance import completed

WIDTH = 10_000  # of a line: none is broken
TOLD = ("torch", "open_clip_torch", "transformers", "vllm")  # versions of packages that a person asks for


def draw(chain: Sequence[Link | Gone]) -> str:
    """The newest cycle at the top, its parent as its last branch, and so on to the first."""
    top = branch = _node("")
    for link in chain:
        branch = _add(branch, _title(link))
        if isinstance(link, Gone):
            _add(branch, f"data set {link.dataset}: deleted since")
            continue
        _add_model(branch, link)
        _add_data(branch, link)
    drawn = io.StringIO()
    Console(file=drawn, width=WIDTH, color_system=None).print(top.children[0])
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines())


def _title(link: Link | Gone) -> str:
    return f"cycle {link.record.cycle}: {link.record.verdict}, {link.record.reason}"


def _add_model(cycle: Tree, link: Link) -> None:
    """The model of the cycle, and the others that it was compared with."""
    chosen = link.candidate
    for run in sorted(link.record.runs, key=lambda run: run is not chosen):
        what = "model" if run is chosen else "also trained:"
        model = _add(cycle, f"{what} {run['run']}/model ({run['model_digest']}), average {run['average']:.1%}")
        _add_made(model, link.results.get(run["name"], {}).get("provenance"))
        evaluation = link.evaluations.get(run["name"])
        if evaluation:
            judged = _add(model, f"judged by suite {evaluation.suite} ({evaluation.suite_digest})")
            _add_made(judged, evaluation.provenance)


def _add_data(cycle: Tree, link: Link) -> None:
    version, pool = link.version, link.pool
    data = _add(
        cycle, f"data set {version.name} ({version.digest}), {version.usable_rows} of {version.rows} samples usable"
    )
    _add_made(data, version.provenance)
    if version.parent:
        _add(data, f"follows data set {version.parent}")
    if version.score_model:
        _add(data, f"scored by model {version.score_model}")
    annotator = _add(data, f"annotator {version.annotator}{_lvlm(link.annotator)}")
    _add_made(annotator, link.annotator.get("provenance"))
    if pool is None:
        _add(data, f"pool {version.pool}, whose manifest is gone")
        return
    shards = _add(data, f"pool {pool.digest}, {pool.rows} samples of {pool.source}")
    names = [shard.name for shard in pool.shards]
    size = sum(shard.size for shard in pool.shards)
    between = f", {names[0]} to {names[-1]}" if names else ""
    _add(shards, f"{len(names)} shards{between}, {size / 1e6:,.1f} MB")
    _add_made(shards, pool.provenance)


def _lvlm(annotator: Mapping[str, Any]) -> str:
    """`: Qwen/Qwen2.5-VL-7B-Instruct at revision 1f…, content 2e…, prompt web-1`; nothing where nobody says."""
    if not annotator:
        return ""
    lvlm = (annotator.get("provenance") or {}).get("lvlm", {})
    said = [f"{annotator.get('model')}" + (f" at revision {lvlm['revision']}" if lvlm.get("revision") else "")]
    said += [f"content {str(annotator['model_digest'])[:16]}"] if annotator.get("model_digest") else []
    return ": " + ", ".join([*said, f"prompt {annotator.get('prompt')}"])


def _add_made(node: Tree, provenance: Mapping[str, Any] | None) -> None:
    """Who made it, in a line; version 0.1 did not say."""
    if not provenance:
        return
    provenance = completed(provenance)
    packages = provenance["packages"]
    said = [
        f"hqclip {provenance['code_version']}",
        f"commit {provenance['commit']}",
        f"image {provenance['image'] or 'none'}",
        *(f"{name} {packages[name]}" for name in TOLD if name in packages),
        *([f"run {provenance['run']}"] if provenance["run"] else []),
    ]
    _add(node, f"made by {provenance['stage']}, {provenance['time']}: {', '.join(said)}")


def _node(label: str) -> Tree:
    return Tree(Text(inert(label)))


def _add(node: Tree, label: str) -> Tree:
    return node.add(Text(inert(label)))
