"""What stands before a run: doctor's word, and the manifests on a fresh namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.place import LABEL, ROOT, Place

OVERLAYS = ("kubeflow", "onprem", "gke")
WHOLE_CLUSTER = ("ClusterQueue", "ResourceFlavor", "Queue", "PriorityClass", "Namespace")


@pytest.mark.needs("kubernetes", "kubeflow", "store", "images")
def test_doctor(place: Place) -> None:
    """doctor: nothing fails, every line says ok or warn."""
    told = place.pipelines("doctor", "--store", place.store, "--cluster", "-o", "json")
    assert told.code == 0, told.out
    assert {row["status"] for row in told.json} <= {"ok", "warn"}


def rendered(place: Place, overlay: str, namespace: str) -> list[dict[str, object]]:
    """The objects of an overlay, in a namespace of the suite's own, without those of the whole cluster."""
    text = place.kubectl("kustomize", str(ROOT / "manifests/overlays" / overlay)).ok().out
    kept = [each for each in yaml.safe_load_all(text) if each and each["kind"] not in WHOLE_CLUSTER]
    for each in kept:
        each["metadata"].pop("namespace", None)
        each["metadata"].setdefault("labels", {})[LABEL] = place.name
        for subject in each.get("subjects", []):
            subject["namespace"] = namespace
    return kept


@pytest.fixture
def namespace(place: Place, overlay: str) -> Iterator[str]:
    """A fresh one, which enforces Pod Security restricted."""
    name = f"{place.name}-{overlay}"
    labels = {LABEL: place.name, "pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    place.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body)).ok()
    yield name
    place.kubectl("delete", "namespace", name, "--wait=false").ok()


@pytest.mark.needs("kubernetes")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay(place: Place, overlay: str, namespace: str, tmp_path: Path) -> None:
    """An overlay: the server takes every object of it, in a dry run and then for good; again changes nothing."""
    file = tmp_path / "overlay.yaml"
    file.write_text(yaml.safe_dump_all(rendered(place, overlay, namespace)))
    words = ("-n", namespace, "-f", str(file))
    place.kubectl("apply", *words, "--dry-run=server", "--validate=strict").ok()
    place.kubectl("apply", *words, "--validate=strict").ok()
    place.kubectl("diff", *words).ok()
