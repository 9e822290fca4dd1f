"""The fake of Kubeflow Pipelines behaves, towards the real client, as its API server does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import pytest
import urllib3

from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import INPUTS, NAME, write_package

GOOD = {"store": "gs://bucket/hq"}


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with FakeKubeflow() as fake:
        yield fake


@pytest.fixture
def client(fake: FakeKubeflow) -> kfp.Client:
    return kfp.Client(host=fake.url, namespace="team")


@pytest.fixture
def uploaded(client: kfp.Client, tmp_path: Path) -> Any:
    return client.upload_pipeline(str(write_package(tmp_path)), NAME, description="of a test")


@pytest.fixture
def start(client: kfp.Client, uploaded: Any) -> Callable[..., Any]:
    """`start(name, **params)`: a run of the version that was uploaded."""
    (version,) = client.list_pipeline_versions(uploaded.pipeline_id).pipeline_versions
    experiment = client.create_experiment("hqclip")

    def start(name: str = "one", **params: Any) -> Any:
        ids = {"pipeline_id": uploaded.pipeline_id, "version_id": version.pipeline_version_id}
        return client.run_pipeline(experiment.experiment_id, name, params={**GOOD, **params}, **ids)

    return start


def refused(call: Callable[[], object]) -> tuple[int, str]:
    """Number and body of a refusal."""
    with pytest.raises(kfp_server_api.ApiException) as caught:
        call()
    return int(caught.value.status), str(caught.value.body)


def test_an_upload_makes_a_pipeline_and_a_version_that_bears_its_name(client: kfp.Client, uploaded: Any) -> None:
    (version,) = client.list_pipeline_versions(uploaded.pipeline_id).pipeline_versions
    assert (uploaded.display_name, uploaded.description, version.display_name) == (NAME, "of a test", NAME)
    assert version.pipeline_spec["root"]["inputDefinitions"]["parameters"] == INPUTS
    assert client.get_pipeline_id(NAME) == uploaded.pipeline_id
    assert client.get_pipeline_id("nothing of the kind") is None


def test_names_are_taken_once(client: kfp.Client, uploaded: Any, tmp_path: Path) -> None:
    path = str(write_package(tmp_path))
    assert refused(lambda: client.upload_pipeline(path, NAME))[0] == 409
    client.upload_pipeline_version(path, "second", pipeline_name=NAME)
    code, body = refused(lambda: client.upload_pipeline_version(path, "second", pipeline_id=uploaded.pipeline_id))
    assert code == 409
    assert "already exists" in json.loads(body)["error_details"]
    assert [v.display_name for v in client.list_pipeline_versions(uploaded.pipeline_id).pipeline_versions] == [
        NAME,
        "second",
    ]


def test_what_is_no_pipeline_is_not_taken(client: kfp.Client, tmp_path: Path) -> None:
    path = tmp_path / "shopping.yaml"
    path.write_text("- milk\n")
    code, body = refused(lambda: client.upload_pipeline(str(path), "shopping"))
    assert code == 400
    assert "unknown template format" in body


def test_long_lists_come_in_pages_and_in_the_order_asked_for(client: kfp.Client, start: Callable[..., Any]) -> None:
    for number in range(5):
        start(f"run {number}")
    token, names = "", []
    for _ in range(3):
        page = client.list_runs(page_token=token, page_size=2, sort_by="created_at desc")
        assert page.total_size == 5
        names += [run.display_name for run in page.runs]
        token = page.next_page_token
    assert names == [f"run {number}" for number in (4, 3, 2, 1, 0)]
    assert not token


def test_a_page_token_belongs_to_one_question(client: kfp.Client, start: Callable[..., Any]) -> None:
    for number in range(3):
        start(f"run {number}")
    token = client.list_runs(page_size=1, sort_by="created_at desc").next_page_token
    assert refused(lambda: client.list_runs(page_token=token, sort_by="created_at asc"))[0] == 400
    assert refused(lambda: client.list_runs(page_token="made up"))[0] == 400
    assert refused(lambda: client.list_runs(sort_by="beauty desc"))[0] == 400


@pytest.mark.parametrize(
    ("operation", "key", "value", "expected"),
    [
        ("EQUALS", "display_name", "b", ["b"]),
        (1, "name", "b", ["b"]),
        ("NOT_EQUALS", "display_name", "b", ["a", "bb"]),
        ("IS_SUBSTRING", "display_name", "b", ["b", "bb"]),
        (9, "display_name", "nothing", []),
    ],
)
def test_lists_are_filtered(
    client: kfp.Client, start: Callable[..., Any], operation: Any, key: str, value: str, expected: list[str]
) -> None:
    for name in ("a", "b", "bb"):
        start(name)
    wanted = {"predicates": [{"operation": operation, "key": key, "stringValue": value}]}
    found = client.list_runs(filter=json.dumps(wanted)).runs or []
    assert [run.display_name for run in found] == expected


def test_an_unknown_filter_is_refused(client: kfp.Client) -> None:
    wanted = {"predicates": [{"operation": "EQUALS", "key": "beauty", "stringValue": "great"}]}
    assert "unrecognized field" in refused(lambda: client.list_runs(filter=json.dumps(wanted)))[1]
    assert refused(lambda: client.list_runs(filter="{"))[0] == 400


def test_a_run_lives_and_ends_as_the_test_says(
    fake: FakeKubeflow, client: kfp.Client, start: Callable[..., Any]
) -> None:
    run = start()
    assert (run.state, client.get_run(run.run_id).state) == ("PENDING", None), "it says nothing for some seconds"
    fake.state(run.run_id, "RUNNING")
    fake.task(run.run_id, "train", "RUNNING", item=0)
    fake.task(run.run_id, "train", "FAILED", item=0, status=65)
    fake.finish(run.run_id, "FAILED")
    ended = client.wait_for_run_completion(run.run_id, timeout=600)
    tasks = ended.run_details.task_details
    assert {task.display_name for task in tasks} == {
        "train",
        "train(0)",
        "train-driver",
        "train-driver(0)",
        "executor",
        "executor(0)",
    }
    assert not any(task.error or task.pod_name or task.parent_task_id for task in tasks)
    assert (ended.state, ended.error) == ("FAILED", None)
    assert [status.state for status in ended.state_history] == ["PENDING", None, "RUNNING", "FAILED"]


def test_a_run_can_be_terminated_archived_and_deleted(client: kfp.Client, start: Callable[..., Any]) -> None:
    run = start()
    client.terminate_run(run.run_id)
    assert [client.get_run(run.run_id).state for _ in range(2)] == ["CANCELING", "FAILED"]
    assert refused(lambda: client.terminate_run(run.run_id))[0] == 400
    client.archive_run(run.run_id)
    assert client.get_run(run.run_id).storage_state == "ARCHIVED"
    client.unarchive_run(run.run_id)
    client.delete_run(run.run_id)
    code, body = refused(lambda: client.get_run(run.run_id))
    assert code == 404
    assert "not found" in json.loads(body)["message"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"store": None}, "store"),
        ({"train_seed": "1"}, "train_seed requires type NUMBER_INTEGER"),
        ({"release": 1.1}, "release requires type STRING"),
        ({"train_rate": True}, "train_rate requires type NUMBER_DOUBLE"),
        ({"colour": "red"}, "colour is not an input"),
    ],
)
def test_inputs_are_checked_as_the_pipeline_defines_them(
    start: Callable[..., Any], params: dict[str, Any], said: str
) -> None:
    code, body = refused(lambda: start(**params))
    assert code == 400
    assert said in body


def test_a_package_runs_without_being_uploaded(client: kfp.Client, tmp_path: Path) -> None:
    path = str(write_package(tmp_path))
    result = client.create_run_from_pipeline_package(path, arguments=GOOD, experiment_name="hqclip")
    run = client.get_run(result.run_id)
    assert run.pipeline_version_reference is None
    assert run.pipeline_spec["pipelineInfo"]["name"] == NAME


def test_a_schedule_fires_while_it_is_enabled_and_its_last_run_is_over(
    fake: FakeKubeflow, client: kfp.Client, uploaded: Any
) -> None:
    (version,) = client.list_pipeline_versions(uploaded.pipeline_id).pipeline_versions
    made = client.create_recurring_run(
        client.create_experiment("hqclip").experiment_id,
        "nightly",
        cron_expression="0 0 3 * * *",
        no_catchup=True,
        params=GOOD,
        pipeline_id=uploaded.pipeline_id,
        version_id=version.pipeline_version_id,
    )
    (listed,) = client.list_recurring_runs().recurring_runs
    assert (listed.display_name, listed.status, listed.max_concurrency) == ("nightly", "ENABLED", "1")
    assert listed.trigger.cron_schedule.cron == "0 0 3 * * *"
    first = fake.fire(made.recurring_run_id)
    assert client.get_run(first).recurring_run_id == made.recurring_run_id
    assert fake.fire(made.recurring_run_id) == ""
    fake.finish(first)
    assert fake.fire(made.recurring_run_id) != ""
    client.disable_recurring_run(made.recurring_run_id)
    fake.finish(client.list_runs(sort_by="created_at desc").runs[0].run_id)
    assert fake.fire(made.recurring_run_id) == ""
    client.enable_recurring_run(made.recurring_run_id)
    assert fake.fire(made.recurring_run_id) != ""
    client.delete_recurring_run(made.recurring_run_id)
    assert refused(lambda: client.get_recurring_run(made.recurring_run_id))[0] == 404


def test_a_schedule_without_a_version_follows_the_newest(
    fake: FakeKubeflow, client: kfp.Client, uploaded: Any, tmp_path: Path
) -> None:
    body = kfp_server_api.V2beta1RecurringRun(
        display_name="nightly",
        mode="ENABLE",
        trigger={"cron_schedule": {"cron": "0 0 3 * * *"}},
        runtime_config={"parameters": GOOD},
        pipeline_version_reference={"pipeline_id": uploaded.pipeline_id},
    )
    made = client._recurring_run_api.recurring_run_service_create_recurring_run(recurring_run=body)
    newer = client.upload_pipeline_version(str(write_package(tmp_path)), "newer", pipeline_name=NAME)
    run = client.get_run(fake.fire(made.recurring_run_id))
    assert run.pipeline_version_reference.pipeline_version_id == newer.pipeline_version_id


@pytest.mark.parametrize("cron", ["every day", "* * *", ""])
def test_a_schedule_that_is_none_is_refused(client: kfp.Client, uploaded: Any, cron: str) -> None:
    trigger = {"cron_schedule": {"cron": cron}}
    reference = {"pipeline_id": uploaded.pipeline_id}
    body = kfp_server_api.V2beta1RecurringRun(
        display_name="odd", mode="ENABLE", trigger=trigger, pipeline_version_reference=reference
    )
    service = client._recurring_run_api
    assert refused(lambda: service.recurring_run_service_create_recurring_run(recurring_run=body))[0] == 400


def test_several_users_each_have_their_namespace(tmp_path: Path) -> None:
    with FakeKubeflow(multi_user=True, namespaces=("team", "other")) as fake:
        client = kfp.Client(host=fake.url, namespace="team")
        client.upload_pipeline(str(write_package(tmp_path)), NAME, namespace="team")
        assert client.list_pipelines(namespace="team").total_size == 1
        assert client.list_pipelines(namespace="other").total_size == 0
        assert "namespace cannot be empty" in refused(lambda: client.list_pipelines())[1]
        assert refused(lambda: client.list_pipelines(namespace="secret"))[0] == 403


def test_a_request_that_the_description_does_not_know_is_refused(fake: FakeKubeflow) -> None:
    ask = urllib3.PoolManager(retries=False).request
    root = f"{fake.url}/apis/v2beta1"
    assert ask("GET", f"{root}/runs?colour=red").status == 400
    assert ask("POST", f"{root}/runs", json={"display_name": "x", "colour": "red"}).status == 400
    assert ask("GET", f"{root}/nothing").status == 404
    assert ask("PUT", f"{root}/runs").status == 501
    assert ask("GET", f"{fake.url}/apis/v1beta1/runs").status == 404


def test_faults_happen_as_often_as_they_are_ordered(fake: FakeKubeflow, client: kfp.Client) -> None:
    failing = fake.fail("GET", "/experiments", 503, times=2, skip=1)
    assert client.list_experiments().total_size == 0
    assert [refused(client.list_experiments)[0] for _ in range(2)] == [503, 503]
    assert client.list_experiments().total_size == 0
    assert failing.fired == 2
    fake.assert_all_faults_fired()
    fake.drop("GET", "/runs")
    with pytest.raises(AssertionError, match="never came to pass"):
        fake.assert_all_faults_fired()


def test_what_was_done_unheard_was_done(fake: FakeKubeflow, client: kfp.Client, tmp_path: Path) -> None:
    fake.commit_then_drop("POST", "/pipelines/upload")
    with pytest.raises(urllib3.exceptions.HTTPError):
        client._upload_api.upload_pipeline(str(write_package(tmp_path)), name=NAME)
    assert client.get_pipeline_id(NAME)


def test_slow_answers_are_late_and_complete(fake: FakeKubeflow, client: kfp.Client) -> None:
    fake.slow("GET", "/runs", 0.3, times=4)  # kfp's client asks again
    with pytest.raises(urllib3.exceptions.MaxRetryError, match="Read timed out"):
        client._run_api.run_service_list_runs(_request_timeout=(5, 0.1))
    fake.slow("GET", "/runs", 0.01)
    assert client.list_runs().total_size == 0
    fake.assert_all_faults_fired()


def test_something_happens_at_each_look(fake: FakeKubeflow, client: kfp.Client, start: Callable[..., Any]) -> None:
    fake.on_polls(lambda run: fake.state(run, "RUNNING"), lambda run: fake.finish(run))
    run = start()
    assert [client.get_run(run.run_id).state for _ in range(3)] == ["RUNNING", "SUCCEEDED", "SUCCEEDED"]
