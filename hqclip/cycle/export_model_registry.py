"""A closed cycle in; in Kubeflow's Model Registry its candidate, as a version of the registered model, out.

The version has scores, digests and origin as custom properties, and one artifact: where in the store the model is. The
custom property `champion` of the registered model names the version in force. A version that is there already gets
the verdict that it has by now, and no second one is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hqclip.cycle.config import ExportModelRegistryConfig
from hqclip.cycle.export_facts import facts_of, is_in_force, scores_of
from hqclip.cycle.links import Link, champion_cycle, read_link
from hqclip.cycle.model_registry_api import TOKEN, Document, Registry
from hqclip.errors import ConfigError, ConflictError
from hqclip.exported import check_files
from hqclip.store import Store, in_bucket, open_store

SERVER = "HQCLIP_MODEL_REGISTRY"  # environment variable
CHAMPION = "champion"  # custom property of the registered model
FORMAT = "open_clip"
DESCRIPTION = "CLIP models trained on refined data; the property champion names the version in force"


def export(config: ExportModelRegistryConfig) -> dict[str, Any]:
    """The ids of what is in the registry now.

    Raises `NotFoundError` for a cycle that is not closed, `ConflictError` for a version of this name from another
    store, `DataError` for a model that is not as it was judged, and what `Registry` raises.
    """
    store = open_store(config.store)
    link = read_link(store, config.cycle or champion_cycle(store))
    server = config.server or os.environ.get(SERVER, "")
    if not server:
        raise ConfigError(f"which Model Registry? give --server http://host:8080, or set {SERVER}")
    registry = Registry(server, os.environ.get(TOKEN, ""))
    model = _ensure(
        registry,
        ("registered_model", {"name": config.registered_model}),
        ("/registered_models", {"name": config.registered_model, "description": DESCRIPTION}),
    )
    version = _version(registry, store, link, model)
    artifact = _artifact(registry, store, link, version)
    in_force = is_in_force(store, link)
    if in_force:
        _crown(registry, model, version["name"])
    return {
        "cycle": link.record.cycle,
        "server": registry.server,
        "registered_model": model["id"],
        "version": version["id"],
        "artifact": artifact["id"],
        "champion": in_force,
    }


def _version(registry: Registry, store: Store, link: Link, model: Document) -> Document:
    """The candidate of the cycle, known again by the run that trained it, with what is known of it now."""
    run = link.candidate
    name, origin = run["run"].removeprefix("runs/"), f"{store.uri}/{run['run']}"
    properties = {**facts_of(store, link, run), **scores_of(link.evaluations.get(run["name"]))}
    about = {"customProperties": {key: _value(value) for key, value in properties.items()}}
    version = _ensure(
        registry,
        ("model_version", {"name": name, "parentResourceId": model["id"]}),
        ("/model_versions", {"name": name, "registeredModelId": model["id"], "externalId": origin, **about}),
        before=lambda: check_files(store, link.record.candidate, run["model_digest"]),
    )
    if version.get("externalId") != origin:
        raise ConflictError(
            f"{model['name']} of the Model Registry has a version {name} that is not from here, but from "
            f"{version.get('externalId', 'elsewhere')}; give this store another --registered-model"
        )
    if version["customProperties"] != about["customProperties"]:
        return registry.change(f"/model_versions/{version['id']}", about)
    return version


def _artifact(registry: Registry, store: Store, link: Link, version: Document) -> Document:
    """Where the files of the model are, with the digest by which they are known."""
    folder = f"{store.uri}/{link.record.candidate}"
    run = str((link.results.get(link.candidate["name"], {}).get("provenance") or {}).get("run", ""))
    made_by = {"modelSourceKind": "pipelines", "modelSourceClass": "pipelinerun", "modelSourceId": run} if run else {}
    return _ensure(
        registry,
        ("model_artifact", {"name": version["name"], "parentResourceId": version["id"]}),
        (
            f"/model_versions/{version['id']}/artifacts",
            {
                "artifactType": "model-artifact",
                "name": version["name"],
                "uri": folder if in_bucket(folder) else Path(folder.removeprefix("file://")).absolute().as_uri(),
                "modelFormatName": FORMAT,
                "state": "LIVE",
                "customProperties": {"digest": _value(link.candidate["model_digest"])},
                **made_by,
            },
        ),
    )


def _crown(registry: Registry, model: Document, version: str) -> None:
    properties = model["customProperties"]
    crowned = {**properties, CHAMPION: _value(version)}
    if crowned != properties:
        registry.change(f"/registered_models/{model['id']}", {"customProperties": crowned})


def _ensure(
    registry: Registry,
    find: tuple[str, Mapping[str, str]],
    make: tuple[str, Mapping[str, Any]],
    before: Callable[[], object] = dict,
) -> Document:
    """What is found, or else made, after `before`.

    Another export may make it at the same moment, or the answer to ours get lost.
    """
    what, by = find
    found = registry.find(what, **by)
    if found is not None:
        return found
    before()
    try:
        return registry.make(*make)
    except ConflictError:
        found = registry.find(what, **by)
        if found is None:
            raise
        return found


def _value(value: str | int | float) -> Document:
    """A custom property, as the registry spells it."""
    if isinstance(value, int):
        return {"metadataType": "MetadataIntValue", "int_value": str(value)}
    if isinstance(value, float):
        return {"metadataType": "MetadataDoubleValue", "double_value": value}
    return {"metadataType": "MetadataStringValue", "string_value": value}
