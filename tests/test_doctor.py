"""What the doctor says of machines, stores and clusters that are well, and of those that are not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components import images
from hqclip.errors import UnavailableError
from hqclip.flags import Parser
from hqclip.store import ObjectInfo
from hqclip.store.local import LocalStore
from hqclip.store.s3 import S3Store
from hqclip.store.s3_promises import PARTS, SWAPS
from pipelines.client import doctor
from pipelines.client.finding import FAIL, OK, WARN, Check, Finding, examine
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_api import Answer
from tests.fakes.kubeflow_client import look_at_once
from tests.fakes.kubernetes import FakeCluster
from tests.fakes.kubernetes_tasks import ACCOUNTS, TaskCluster
from tests.fakes.receivers import FakeWeb
from tests.fakes.s3 import FaultyLine
from tests.launching import write_kubeconfig

KFP = {"kfp": ("2.17.0", ['urllib3==2.7.0; python_version >= "3.10"', 'urllib3==2.6.3; python_version < "3.10"'])}
TORCHX = {"torchx-nightly": ("2026.10.26", [])}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    look_at_once(monkeypatch)


@pytest.fixture
def kubeflow() -> Iterator[FakeKubeflow]:
    with FakeKubeflow() as fake:
        yield fake
    fake.assert_all_faults_fired()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskCluster]:
    with TaskCluster() as fake:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", fake.url)))
        yield fake


class Doctor:
    """`python -m pipelines doctor`, its answers by check."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.code = 0
        self.err = ""

    def __call__(self, *words: str) -> dict[str, dict[str, str]]:
        parser = Parser()
        doctor.add_arguments(parser)
        self.code = doctor.run(parser.parse_args([*words, "--patience-s", "1", "-o", "json"]))
        out, self.err = self.capsys.readouterr()
        return {row["check"]: row for row in json.loads(out)}


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(capsys)


def statuses(rows: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: row["status"] for name, row in rows.items()}


def test_all_is_well_with_a_store_a_kubeflow_and_a_cluster(
    kubeflow: FakeKubeflow, cluster: FakeCluster, tmp_path: Path, ask: Doctor, monkeypatch: pytest.MonkeyPatch
):
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"registry": "r.example", "digests": dict.fromkeys(images.ROLES, "sha256:" + "0" * 64)}))
    monkeypatch.setattr(images, "LOCK", lock)
    for name in doctor.ACCOUNTS:
        cluster.add("serviceaccounts", {"metadata": {"name": name}})
    (tmp_path / "store").mkdir()
    rows = ask("--store", str(tmp_path / "store"), "--host", kubeflow.url, "--cluster", "--namespace", "training")
    assert {name for name, row in rows.items() if row["status"] != OK} == {"backend"}, rows
    assert "does not say its version" in rows["backend"]["found"]
    assert ask.code == 0
    assert not cluster.names("jobs")
    assert not cluster.names("jobsets"), "dry runs leave nothing behind"
    assert [p.name for p in (tmp_path / "store").iterdir() if not p.name.startswith(".")] == []


def test_without_anything_it_says_what_to_give(ask: Doctor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HQCLIP_KFP_HOST", raising=False)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    rows = ask()
    assert ask.code == 78
    assert rows["store"]["advice"] == "give --store"
    assert "Give --host URL" in rows["kubeflow"]["found"]
    assert statuses(rows)["backend"] == WARN
    assert rows["clock"]["found"] == "not looked at: kubeflow failed"


def test_a_table_is_read_from_top_to_bottom(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    parser = Parser()
    doctor.add_arguments(parser)
    code = doctor.run(parser.parse_args(["--store", str(tmp_path), "--host", "nowhere"]))
    out, err = capsys.readouterr()
    assert code == 78
    assert f"ok    store: {tmp_path} can be written, read, listed and deleted from, and overwrites nothing" in out
    assert "FAIL  kubeflow: --host is 'nowhere'" in out
    assert "1 failed: kubeflow" in err


def test_an_old_python_is_refused():
    assert doctor.python((3, 10, 4)).status == FAIL
    assert doctor.python((3, 12, 0)).status == OK


@pytest.mark.parametrize(
    ("installed", "status", "said"),
    [
        ({**KFP, **TORCHX, "urllib3": ("2.7.0", [])}, OK, "kfp 2.17.0"),
        ({**KFP, "urllib3": ("2.7.0", [])}, WARN, "jobs cannot be launched from here"),
        ({**KFP, **TORCHX, "urllib3": ("1.26.20", [])}, WARN, "kfp 2.17.0 wants urllib3==2.7.0, there is 1.26.20"),
        ({**KFP, "torchx": ("0.7.0", ["urllib3<1.27,>=1.21.1"])}, FAIL, "this torchx excludes kfp 2.17"),
        ({"kfp": ("2.16.1", [])}, FAIL, "hqclip needs kfp 2.17"),
        ({}, FAIL, "kfp is missing"),
    ],
)
def test_packages_that_exclude_each_other_are_told(installed: dict[str, Any], status: str, said: str):
    finding = doctor.packages(installed)
    assert finding.status == status
    assert said in f"{finding.found}. {finding.advice}"


def test_the_packages_of_this_environment_fit():
    assert doctor.packages().status == OK


def test_images_named_by_a_tag_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HQCLIP_TAG", "latest")
    finding = doctor.pinned_images()
    assert finding.status == WARN
    assert "hqclip/train:latest" in finding.found


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path):
    finding = doctor.store(str(tmp_path / "new/store"))
    assert finding.status == OK
    assert "can be made" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_fails(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    finding = examine(Check("store", lambda: doctor.store(str(tmp_path / "file/store"))))
    assert finding.status == FAIL
    assert "file" in finding.found
    assert examine(Check("store", lambda: doctor.store("ftp://bucket/x"))).status == FAIL


class Forgetful(LocalStore):
    """A store that keeps the last of what is written, as plain object stores do."""

    def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> ObjectInfo:
        return super().write(key, data, create_only=False)


def test_a_store_that_overwrites_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "open_store", lambda uri: Forgetful(Path(uri)))
    finding = doctor.store(str(tmp_path))
    assert (finding.status, finding.found) == (FAIL, f"{tmp_path} lets what is there be overwritten")
    assert not list(tmp_path.glob("doctor-*"))


def test_a_server_of_s3_that_keeps_what_a_store_relies_on_is_well(s3: S3Store):
    finding = doctor.store(s3.uri)
    assert (finding.status, finding.advice) == (OK, "")
    assert list(s3.list()) == []


def test_a_server_of_s3_that_breaks_promises_fails_by_their_names(s3: S3Store, s3_line: FaultyLine):
    told = s3_line.fault("ignore", "PUT probe", "If-Match", times=20)
    also = s3_line.fault("ignore", "POST probe uploadId", "If-None-Match", times=20)
    finding = doctor.store(s3.uri)
    told.times, also.times = told.fired, also.fired
    assert finding.status == FAIL
    assert finding.found == f"{s3.uri}: {SWAPS}; {PARTS}"
    assert "take another server" in finding.advice
    assert list(s3.list()) == []


def test_a_fault_is_a_finding_and_a_bug_is_not():
    def unreachable() -> Finding:
        raise UnavailableError("no answer")

    def broken() -> Finding:
        raise KeyError("x")

    assert examine(Check("it", unreachable)) == Finding(FAIL, "no answer", "")
    with pytest.raises(KeyError):
        examine(Check("it", broken))


@pytest.mark.parametrize(
    ("version", "status", "said"),
    [("2.17.0", OK, "version 2.17.0"), ("2.5.1", WARN, "made for 2.16 or newer"), ("unknown", WARN, "does not say")],
)
def test_an_old_backend_is_told(kubeflow: FakeKubeflow, ask: Doctor, version: str, status: str, said: str):
    kubeflow.say("GET", "healthz", Answer({"multi_user": False, "tag_name": version}), times=3)
    row = ask("--host", kubeflow.url)["backend"]
    assert row["status"] == status
    assert said in f"{row['found']}. {row['advice']}"


@pytest.mark.parametrize(("ahead_s", "status"), [(0, OK), (120, WARN), (-7200, FAIL)])
def test_a_clock_that_is_wrong_is_told(kubeflow: FakeKubeflow, ahead_s: float, status: str):
    parser = Parser()
    doctor.add_arguments(parser)
    api = doctor.Api(parser.parse_args(["--host", kubeflow.url]))
    assert api.clock().found == "not looked at: kubeflow failed"
    api.login()
    finding = api.clock(ahead_s)
    assert finding.status == status
    assert ahead_s == 0 or ("ahead of" if ahead_s > 0 else "behind") in finding.found


def test_a_login_that_has_expired_fails_and_spares_the_rest(ask: Doctor, monkeypatch: pytest.MonkeyPatch):
    with FakeKubeflow(token="right") as kubeflow:
        monkeypatch.setenv("HQCLIP_KFP_TOKEN", "stale")
        rows = ask("--host", kubeflow.url)
    assert (rows["kubeflow"]["status"], ask.code) == (FAIL, 78)
    assert "has it expired" in rows["kubeflow"]["found"]
    assert {rows[name]["status"] for name in ("backend", "namespace", "clock")} == {WARN}


def test_that_no_links_can_be_shown_is_said_here_alone(kubeflow: FakeKubeflow, ask: Doctor):
    assert "no links are shown" in ask("--host", kubeflow.url)["kubeflow"]["found"]
    found = ask("--host", kubeflow.url, "--ui", "http://pages")["kubeflow"]["found"]
    assert found.startswith("http://pages, ") and "links" not in found


def test_a_namespace_of_somebody_else_fails(ask: Doctor):
    with FakeKubeflow(multi_user=True, namespaces=("team",)) as kubeflow:
        rows = ask("--host", kubeflow.url, "--namespace", "others")
        assert statuses(rows)["kubeflow"] == OK
        assert statuses(rows)["namespace"] == FAIL
        assert statuses(ask("--host", kubeflow.url, "--namespace", "team"))["namespace"] == OK


def test_no_cluster_at_all_fails_once(tmp_path: Path, ask: Doctor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    rows = ask("--cluster")
    assert "no Kubernetes cluster" in rows["kubernetes"]["found"]
    assert rows["rights"]["found"] == "not looked at: kubernetes failed"


def test_one_scheduler_is_enough_and_none_is_not(tmp_path: Path, ask: Doctor, monkeypatch: pytest.MonkeyPatch):
    for installed, volcano, some in (({"jobs.batch.volcano.sh", "queues"}, OK, OK), (set(), WARN, FAIL)):
        with FakeCluster(installed=installed) as cluster:
            monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
            rows = ask("--cluster")
        assert statuses(rows)["volcano"] == volcano
        assert statuses(rows)["jobset"] == WARN
        assert "install JobSet" in rows["jobset"]["found"]
        assert statuses(rows)["some scheduler"] == some
        assert ask.code == 78


def test_a_jobset_that_is_too_old_is_none(tmp_path: Path, ask: Doctor, monkeypatch: pytest.MonkeyPatch):
    with FakeCluster(lacks=["onJobFailureMessagePatterns"]) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        rows = ask("--cluster")
    assert (rows["jobset"]["status"], rows["some scheduler"]["found"]) == (WARN, "volcano")
    assert "JobSet 0.10 or newer is needed" in rows["jobset"]["found"]


def test_a_right_that_is_missing_is_named(tmp_path: Path, ask: Doctor, monkeypatch: pytest.MonkeyPatch):
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["batch.volcano.sh"], "resources": ["jobs"], "verbs": ["create"]},
    ]
    with FakeCluster(rules=rules) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        rows = ask("--cluster")
    assert statuses(rows)["kubernetes"] == OK
    assert "cannot delete resource" in rows["volcano"]["found"]
    assert "cannot create resource" in rows["jobset"]["found"]
    assert "cannot list resource" in rows["rights"]["found"]
    assert "manifests/base has the roles" in rows["rights"]["found"]


def test_a_right_that_no_launch_needs_may_be_missing(tmp_path: Path, ask: Doctor, monkeypatch: pytest.MonkeyPatch):
    with FakeCluster(rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]) as cluster:
        cluster.resources.append(ACCOUNTS)
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        rows = ask("--cluster")
    for name, said in (("kueue", "cannot list resource"), ("service accounts", "cannot get resource")):
        assert (rows[name]["status"], said in rows[name]["found"]) == (WARN, True), rows[name]


def test_the_cluster_is_looked_at_where_the_other_verbs_look(
    kubeflow: FakeKubeflow, cluster: FakeCluster, ask: Doctor, monkeypatch: pytest.MonkeyPatch
):
    assert ask("--cluster", "--host", kubeflow.url)["kubernetes"]["found"] == "namespace kubeflow"
    assert ask("--cluster")["kubernetes"]["found"] == "namespace training", "that of the kubeconfig: nothing is known"
    monkeypatch.setenv("HQCLIP_KFP_PORT_FORWARD", "ml")
    monkeypatch.setenv("PATH", "")  # no kubectl, and no Kubeflow
    assert ask("--cluster")["kubernetes"]["found"] == "namespace ml"
    monkeypatch.setenv("HQCLIP_KFP_NAMESPACE", "team")
    for words in ((), ("--host", kubeflow.url)):
        assert ask("--cluster", *words)["kubernetes"]["found"] == "namespace team"


def test_accounts_that_are_missing_are_named(cluster: FakeCluster, ask: Doctor):
    cluster.add("serviceaccounts", {"metadata": {"name": "hqclip-worker"}})
    row = ask("--cluster")["service accounts"]
    assert (row["status"], row["found"]) == (FAIL, "missing: hqclip-launcher, hqclip-janitor")


def test_queues_of_kueue_are_listed(cluster: FakeCluster, ask: Doctor):
    cluster.add("localqueues", {"metadata": {"name": "research"}})
    assert ask("--cluster")["kueue"]["found"] == "queues: research"


def test_the_job_of_each_stage_is_tried_on_its_machines(cluster: FakeCluster, tmp_path: Path, ask: Doctor):
    machines = tmp_path / "machines.yaml"
    pinned = "r.example/train@sha256:" + "0" * 64
    machines.write_text(
        f"scheduler: jobset\nimage: {pinned}\ntrain: {{nodes: 2, gpus: 8}}\n"
        "annotate: {scheduler: volcano, image: 'r.example/annotate:1'}\nevaluate: {scheduler: local}\n"
    )
    rows = ask("--launch", str(machines))
    assert rows["job of train"]["found"] == "2 x 8 GPUs by jobset (dry run)"
    assert rows["job of annotate"]["found"] == "1 x 0 GPUs by volcano (dry run)"
    assert rows["machines"]["found"].endswith("named by a tag: r.example/annotate:1")
    assert rows["job of evaluate"]["found"] == "runs where it is called"
    cluster.fail("POST", "/jobsets", 403, message="exceeded quota: gpus, requested: 16, used: 0, limited: 8")
    cluster.fail("POST", "/jobsets", 403, message="exceeded quota: gpus, requested: 16, used: 0, limited: 8")
    rows = ask("--launch", str(machines))
    assert "exceeded quota" in rows["job of train"]["found"]
    assert os.environ["KUBECONFIG"]


def test_images_without_a_digest_are_said_once(cluster: FakeCluster, tmp_path: Path, ask: Doctor):
    machines = tmp_path / "machines.yaml"
    tags = [f"r.example/{name}:1" for name in ("annotate", "train")]
    machines.write_text(
        f"scheduler: jobset\nimage: {tags[1]}\ntrain: {{gpus: 8}}\nevaluate: {{gpus: 1}}\n"
        f"annotate: {{scheduler: volcano, image: '{tags[0]}'}}\n"
    )
    rows = ask("--launch", str(machines))
    assert rows["machines"]["status"] == WARN
    assert rows["machines"]["found"].endswith(f"named by a tag: {', '.join(tags)}")
    assert [name for name, row in rows.items() if "tag" in row["found"]] == ["images", "machines"]
    assert ask.err.count("digest") == 0


def test_a_queue_that_is_not_there_fails(cluster: FakeCluster, tmp_path: Path, ask: Doctor):
    machines = tmp_path / "machines.yaml"
    machines.write_text("scheduler: jobset\nimage: r.example/train:1\nqueue: research\ntrain: {gpus: 8}\n")
    row = ask("--launch", str(machines))["job of train"]
    assert row["status"] == FAIL and row["found"].startswith("there is no local queue research in namespace ")
    cluster.add("localqueues", {"metadata": {"name": "research"}})
    assert ask("--launch", str(machines))["job of train"]["status"] == OK


def test_machines_with_a_fault_fail_and_the_rest_is_asked(cluster: FakeCluster, tmp_path: Path, ask: Doctor):
    machines = tmp_path / "machines.yaml"
    machines.write_text("scheduler: jobset\nimage: r.example/x:1\ntrain: {memory: 2Gi}\nannotate: {gpus: 1}\n")
    rows = ask("--launch", str(machines))
    assert (ask.code, rows["machines"]["status"]) == (78, FAIL)
    assert "train: shm is 8Gi, which is more than the memory of 2Gi" in rows["machines"]["found"]
    assert rows["job of annotate"]["status"] == OK and "job of train" not in rows
    rows = ask("--launch", str(tmp_path / "nowhere.yaml"))
    assert "nowhere.yaml" in rows["machines"]["found"] and rows["overlays"]["status"] == OK


def test_messages_to_people_are_looked_at_where_they_are_set_and_tried_where_it_is_asked_for(
    ask: Doctor, kubeflow: FakeKubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "notifications" not in ask("--host", kubeflow.url)
    with FakeWeb() as web:
        monkeypatch.setenv("HQCLIP_NOTIFY_WEBHOOK_URL", web.url)
        assert ask("--host", kubeflow.url)["notifications"]["found"].startswith("webhook would be told")
        assert web.asked == 0
        found = ask("--host", kubeflow.url, "--notify")["notifications"]
        assert (found["status"], found["found"]) == (OK, "a test message was taken by webhook")
        web.manner = "500"
        found = ask("--host", kubeflow.url, "--notify")["notifications"]
        assert (found["status"], found["found"]) == (FAIL, "webhook: the receiver answered 500")
    monkeypatch.setenv("HQCLIP_NOTIFY_SMTP_HOST", "mail.example")
    assert "HQCLIP_NOTIFY_SMTP_FROM" in ask("--host", kubeflow.url)["notifications"]["found"]
