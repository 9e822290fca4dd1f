"""`hqclip gc` beside the janitor: what its CronJob runs, what it may reach, and who is told when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest

from hqclip.cli import main, parse
from hqclip.cycle.garbage.config import GcConfig
from hqclip.launch.pod_security import AGAINST
from hqclip.store import open_store
from tests.fakes.receivers import FakeWeb
from tests.rendering import Json
from tests.test_manifests import compose, find, selects

PARTS = "[../../components/store-gc, ../../components/{way}]"
WAYS = {"gcs-key": "GOOGLE_APPLICATION_CREDENTIALS", "s3": "AWS_ENDPOINT_URL", "shared-volume": ""}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWeb]:
    with FakeWeb() as fake:
        monkeypatch.setenv("HQCLIP_NOTIFY_WEBHOOK_URL", fake.url)
        yield fake


def composed(tmp_path: Path, way: str) -> tuple[list[Json], Json]:
    """The objects of the base with the component, and the pod that collects."""
    objects = compose(tmp_path, f"resources: [../../base]\ncomponents: {PARTS.format(way=way)}\n")
    return objects, find(objects, "CronJob", "hqclip-janitor-gc")["spec"]["jobTemplate"]["spec"]["template"]


@pytest.mark.parametrize("way", WAYS)
def test_the_janitor_runs_it_with_all_its_limits_and_deletes_nothing_until_it_is_told(tmp_path: Path, way: str) -> None:
    objects, pod = composed(tmp_path, way)
    for obj in objects:
        if obj["metadata"]["name"] == "hqclip-janitor-gc":
            kubernetes_validate.validate(obj, "1.32", strict=True)
    (container,) = pod["spec"]["containers"]
    given = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    assert WAYS[way] in (*given, "")
    words = container["command"]
    for name, value in given.items():
        words = [word.replace(f"$({name})", value) for word in words]
    settings, _ = parse("gc", [*words[2:], *container.get("args", [])])
    assert settings == GcConfig(store="gs://BUCKET/hqclip"), "as it is without flags: nothing is deleted"
    assert parse("gc", [*words[2:], "--delete"])[0] == GcConfig(store="gs://BUCKET/hqclip", delete=True)
    volumes = [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/store"]
    assert [mount.get("readOnly", False) for mount in volumes] == ([False] if way == "shared-volume" else [])
    assert {"DAYS", "CHAMPIONS", "KEEP"} <= given.keys()


def test_it_is_off_where_nobody_asks_for_it_and_has_no_rights_in_the_cluster(tmp_path: Path) -> None:
    objects, pod = composed(tmp_path, "gcs-key")
    assert AGAINST["restricted"](pod) == []
    assert pod["spec"]["serviceAccountName"] == "hqclip-janitor-gc"
    assert pod["spec"]["automountServiceAccountToken"] is False
    bound = [subject["name"] for obj in objects if obj["kind"] == "RoleBinding" for subject in obj["subjects"]]
    assert "hqclip-janitor-gc" not in bound
    policies = [obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy" and obj["spec"]["podSelector"]]
    assert any(selects(spec["podSelector"], pod["metadata"]["labels"]) for spec in policies)
    (tmp_path / "bare").mkdir()
    bare = compose(tmp_path / "bare", "resources: [../../base]\n")
    assert [obj["metadata"]["name"] for obj in bare if obj["kind"] == "CronJob"] == ["hqclip-janitor"]


def test_people_are_told_of_a_failure_and_of_nothing_else(tmp_path: Path, web: FakeWeb) -> None:
    store = open_store(str(tmp_path / "store"))
    store.write("datasets/0123456789abcdef/dataset.json", b"{}")
    assert main(["gc", "--store", store.uri]) == 0
    assert web.taken == []
    store.write("champion.json", b"{", create_only=False)
    assert [main(["gc", "--store", store.uri]) for _ in range(2)] == [65, 65]
    (body,) = [body for _, _, body in web.taken]
    assert (body["event"], body["title"]) == ("gc_failed", "hqclip: hqclip gc failed")
    assert "champion.json" in body["why"]
    assert body["links"]["next"] == f"hqclip gc --store {store.uri}"
