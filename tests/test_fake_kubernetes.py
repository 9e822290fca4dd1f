"""The fake API server as the real client sees it, and what the schemas of custom resources refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from kubernetes.client import ApiException

from tests.crd_schemas import check
from tests.fakes.kubernetes import FakeCluster
from tests.fakes.kubernetes_client import JOBSET, NEXT_TASK, VOLCANO, Client, job, jobset, refusal


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: FakeCluster) -> Client:
    return Client(cluster)


def test_what_is_created_has_what_the_server_writes_and_can_be_read(client: Client) -> None:
    made = client.create(job())
    assert made == client.get()
    assert {"uid", "creationTimestamp", "resourceVersion", "namespace"} <= made["metadata"].keys()
    assert (made["spec"]["queue"], made["spec"]["maxRetry"], made["spec"]["minAvailable"]) == ("default", 3, 2)


def test_a_name_is_given_once(client: Client) -> None:
    client.create(job())
    code, body = refusal(lambda: client.create(job()))
    assert (code, body["reason"]) == (409, "AlreadyExists")
    assert body["message"] == 'jobs.batch.volcano.sh "train" already exists'
    assert body["details"] == {"name": "train", "group": "batch.volcano.sh", "kind": "jobs"}


def test_a_dry_run_checks_and_keeps_nothing(cluster: FakeCluster, client: Client) -> None:
    assert client.create(job(), dry_run="All")["metadata"]["uid"]
    assert refusal(lambda: client.create(job(queue="none"), dry_run="All"))[0] == 400
    assert cluster.names("jobs") == []


def test_what_is_not_there_is_not_found(cluster: FakeCluster, client: Client) -> None:
    code, body = refusal(client.get)
    assert (code, body["message"]) == (404, 'jobs.batch.volcano.sh "train" not found')
    assert refusal(client.delete)[0] == 404
    elsewhere = ("batch.volcano.sh", "v1alpha1", "elsewhere", "jobs")
    assert refusal(lambda: client.create(job(), elsewhere))[1]["message"] == 'namespaces "elsewhere" not found'
    assert refusal(lambda: client.core.read_namespace("elsewhere"))[0] == 404
    assert client.core.read_namespace("training").metadata.name == "training"


def test_a_resource_nobody_installed_is_told_in_plain_text() -> None:
    with FakeCluster(installed={"jobsets"}) as cluster:
        client = Client(cluster)
        with pytest.raises(ApiException) as caught:
            client.create(job())
        assert (caught.value.status, caught.value.body) == (404, "404 page not found\n")
        client.create(jobset(), JOBSET)
        assert client.raw("GET", "/apis/batch.volcano.sh/v1alpha1").status == 404
        served = client.raw("GET", "/apis/jobset.x-k8s.io/v1alpha2").json()
        assert [told["name"] for told in served["resources"]] == ["jobsets"]
        status = client.raw("GET", "/api/v1/namespaces/training/sockets").json()
        assert status["message"] == "the server could not find the requested resource"


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("stage=a", ["a"]),
        ("stage==a,stage", ["a"]),
        ("stage!=a", ["b", "c"]),
        ("stage in (a,c)", ["a", "c"]),
        ("stage notin (a, c)", ["b"]),
        ("stage", ["a", "b", "c"]),
        ("!stage", []),
        ("stage in (a,b),stage=b", ["b"]),
    ],
)
def test_lists_are_selected_by_label(client: Client, selector: str, names: list[str]) -> None:
    for name in "abc":
        client.create(job(name))
    found = client.list(label_selector=selector)
    assert (found["kind"], found["apiVersion"]) == ("JobList", "batch.volcano.sh/v1alpha1")
    assert [item["metadata"]["name"] for item in found["items"]] == names


def test_long_lists_come_in_pages(client: Client) -> None:
    for name in "abc":
        client.create(job(name))
    first = client.list(limit=2)
    rest = client.list(limit=2, _continue=first["metadata"]["continue"])
    assert [item["metadata"]["name"] for page in (first, rest) for item in page["items"]] == ["a", "b", "c"]
    assert first["metadata"]["remainingItemCount"] == 1 and "continue" not in rest["metadata"]


def test_events_are_selected_by_what_they_are_about(cluster: FakeCluster, client: Client) -> None:
    client.create(job())
    cluster.start_pods("train")
    cluster.event("Pod", "train-node-0", "FailedScheduling", "no machine has 8 GPUs")
    cluster.event("Pod", "train-node-1", "Scheduled", "on machine-0", type="Normal")
    selector = "involvedObject.kind=Pod,involvedObject.name=train-node-0,type!=Normal"
    found = client.core.list_namespaced_event("training", field_selector=selector).items
    assert [event.message for event in found] == ["no machine has 8 GPUs"]
    assert found[0].involved_object.uid == cluster.get("pods", "train-node-0")["metadata"]["uid"]
    assert refusal(lambda: client.list(field_selector="spec.queue=a"))[0] == 400


def test_a_merge_patch_changes_and_removes(client: Client) -> None:
    old = client.create(job())
    path = "/apis/batch.volcano.sh/v1alpha1/namespaces/training/jobs/train"
    patch = {"metadata": {"labels": {"stage": None}, "annotations": {"seen": "yes"}}}
    new = client.raw("PATCH", path, patch, "application/merge-patch+json").json()
    assert new["metadata"]["labels"] == {} and new["metadata"]["annotations"] == {"seen": "yes"}
    assert new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
    assert new == client.get()
    stale = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}}
    assert client.raw("PATCH", path, stale, "application/merge-patch+json").status == 409
    assert client.raw("PATCH", path, {"spec": {"queue": "other"}}, "application/merge-patch+json").status == 400
    assert client.raw("PATCH", path, patch, "application/yaml").status == 415
    assert "status" not in client.raw("PATCH", path, {"status": {}}, "application/merge-patch+json").json()


def test_deletion_takes_along_what_is_owned(cluster: FakeCluster, client: Client) -> None:
    uid = cluster.add("workflows", {"metadata": {"name": "run"}})["metadata"]["uid"]
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run", "uid": uid}
    owned = job()
    owned["metadata"]["ownerReferences"] = [owner]
    client.create(owned)
    cluster.start_pods("train")
    cluster.podgroup("train", "Inqueue")
    cluster.delete("workflows", "run")
    assert cluster.names("jobs") == cluster.names("pods") == cluster.names("podgroups") == []


def test_how_a_deletion_is_asked_for_is_kept_and_its_precondition_holds(cluster: FakeCluster, client: Client) -> None:
    client.create(job())
    assert refusal(lambda: client.delete(body={"preconditions": {"uid": "another"}}))[1]["reason"] == "Conflict"
    assert client.delete(body={"propagationPolicy": "Foreground"})["status"] == "Success"
    assert cluster.requests[-1].body["propagationPolicy"] == "Foreground"
    client.create(job())
    client.delete(propagation_policy="Orphan")
    assert cluster.requests[-1].query["propagationPolicy"] == "Orphan"


def test_an_object_that_is_held_lingers_and_blocks_its_name(cluster: FakeCluster, client: Client) -> None:
    client.create(job())
    cluster.hold("jobs", "train")
    client.delete()
    assert "deletionTimestamp" in client.get()["metadata"]
    assert "object is being deleted" in refusal(lambda: client.create(job()))[1]["message"]
    cluster.release("jobs", "train")
    client.create(job())


def policies(*told: dict[str, Any]) -> dict[str, Any]:
    return job(policies=[{"action": "RestartJob", **policy} for policy in told])


def tasks(**task: Any) -> dict[str, Any]:
    return job(tasks=[{**job()["spec"]["tasks"][0], **task}])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (policies({"event": "PodFailed"}, {"event": "PodFailed"}), "duplicated PodFailed"),
        (policies({"event": "PodFailed", "exitCode": 3}), "must not specify event and exitCode simultaneously"),
        (policies({}), "either event and exitCode should be specified"),
        (policies({"exitCode": 0}), "0 is not a valid error code"),
        (policies({"event": "OutOfSync"}), "invalid policy event OutOfSync"),
        (policies({"event": "*"}, {"event": "PodFailed"}), "if there's * here"),
        (policies({"event": "PodPending"}), "needs a timeout"),
        (tasks(name="n" * 58), "no more than 63 characters"),
        (tasks(minAvailable=3), "'minAvailable' is greater than 'replicas'"),
        (job(tasks=[NEXT_TASK, NEXT_TASK]), "duplicated task name more"),
        (job(minAvailable=3), "should not be greater than total replicas"),
        (job(plugins={"scv": []}), "unable to find job plugin: scv"),
        (job(queue="none"), 'queue.scheduling.volcano.sh "none" not found'),
        (job(queue="shut"), "queue `shut` status is `Closed`"),
    ],
)
def test_volcano_refuses(cluster: FakeCluster, client: Client, body: dict[str, Any], words: str) -> None:
    cluster.queue("shut", "Closed")
    code, told = refusal(lambda: client.create(body))
    assert code == 400
    assert told["message"].startswith('admission webhook "validatejob.volcano.sh" denied the request: ')
    assert words in told["message"]


def test_jobset_refuses_with_the_number_of_missing_rights(client: Client) -> None:
    code, told = refusal(lambda: client.create(jobset(rjob="n" * 60), JOBSET))
    assert code == 403 and "longer than 63 characters" in told["message"]
    again = {"rules": [{"name": "a", "action": "FailJobSet", "targetReplicatedJobs": ["nobody"]}]}
    told = refusal(lambda: client.create(jobset(failurePolicy=again), JOBSET))[1]
    assert "invalid replicatedJob name 'nobody'" in told["message"]


def test_what_has_another_shape_is_refused_with_causes(client: Client) -> None:
    code, told = refusal(lambda: client.create(job(maxRetry="many", ttlSecondsAfterFinished="none")))
    assert (code, told["reason"]) == (422, "Invalid")
    causes = [(cause["reason"], cause["field"]) for cause in told["details"]["causes"]]
    assert causes == [
        ("FieldValueTypeInvalid", "spec.maxRetry"),
        ("FieldValueTypeInvalid", "spec.ttlSecondsAfterFinished"),
    ]
    code, told = refusal(lambda: client.create(job("Train_1")))
    assert (code, told["details"]["causes"][0]["field"]) == (422, "metadata.name")
    assert refusal(lambda: client.create(tasks(name="my_task")))[0] == 422
    code, told = refusal(lambda: client.create(job("s" * 64)))
    assert (code, told["details"]["causes"][0]["field"]) == (422, "metadata.labels")


def test_unknown_keys_are_refused_down_to_the_pod(client: Client) -> None:
    body = job()
    body["spec"]["tasks"][0]["template"]["spec"]["tolerations"] = [{"keyy": "gpu"}]
    code, told = refusal(lambda: client.create(body, field_validation="Strict"))
    assert (code, told["reason"]) == (400, "BadRequest")
    assert 'unknown field "spec.tasks[0].template.spec.tolerations[0].keyy"' in told["message"]


def test_who_does_not_ask_for_strictness_loses_unknown_keys_with_a_warning(client: Client) -> None:
    body = job()
    body["spec"]["tasks"][0]["template"]["spec"]["tolerations"] = [{"keyy": "gpu", "operator": "Exists"}]
    answer = client.raw("POST", "/apis/batch.volcano.sh/v1alpha1/namespaces/training/jobs", body)
    told = '299 - "unknown field \\"spec.tasks[0].template.spec.tolerations[0].keyy\\""'
    assert (answer.status, answer.headers["Warning"]) == (201, told)
    assert client.get()["spec"]["tasks"][0]["template"]["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_an_older_version_does_not_know_all_fields() -> None:
    with FakeCluster(lacks=["maxRetry"]) as cluster:
        client = Client(cluster)
        code, told = refusal(lambda: client.create(job(maxRetry=2), field_validation="Strict"))
        assert code == 400 and 'unknown field "spec.maxRetry"' in told["message"]
        assert client.create(job(maxRetry=2))["spec"]["maxRetry"] == 3, "which is the default"


def test_versions_of_a_group_are_told_and_the_deprecated_one_warns(client: Client) -> None:
    group = client.raw("GET", "/apis/kueue.x-k8s.io").json()
    assert group["preferredVersion"]["groupVersion"] == "kueue.x-k8s.io/v1beta2"
    path = "/apis/kueue.x-k8s.io/{}/namespaces/training/workloads"
    assert "Warning" not in client.raw("GET", path.format("v1beta2")).headers
    assert "v1beta1 Workload is deprecated" in client.raw("GET", path.format("v1beta1")).headers["Warning"]


def test_the_schemas_know_quantities_and_lists_with_keys() -> None:
    good, bad = jobset(), jobset()
    assert check("JobSet", good) == check("Job", job()) == []
    container = bad["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
    container |= {"env": [{"name": "A"}, {"name": "A"}], "resources": {"limits": {"cpu": "2 cores"}}}
    at = "spec.replicatedJobs[0].template.spec.template.spec.containers[0]"
    duplicate, quantity = check("JobSet", bad)
    assert duplicate == f"{at}.env[1]: Duplicate value: {{'name': 'A'}}"
    assert quantity.startswith(f"{at}.resources.limits.cpu: '2 cores' does not match")


@pytest.mark.parametrize("kind", ["jobs", "jobsets"])
def test_a_status_that_the_definition_does_not_know_cannot_be_set(
    cluster: FakeCluster, client: Client, kind: str
) -> None:
    where, body = (VOLCANO, job()) if kind == "jobs" else (JOBSET, jobset())
    client.create(body, where)
    cluster.set_status(kind, "train", {"state": {"phase": "Running"}} if kind == "jobs" else {"restarts": 1})
    assert client.get(where=where)["status"]
    with pytest.raises(AssertionError, match="fase"):
        cluster.set_status(kind, "train", {"fase": "Running"})


def test_a_told_failure_comes_as_often_as_told(cluster: FakeCluster, client: Client) -> None:
    client.create(job())
    busy = cluster.fail("GET", "/jobs/train$", 429, times=2, retry_after=7)
    for _ in range(2):
        with pytest.raises(ApiException) as caught:
            client.get()
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "7")
    assert client.get() and busy.fired == 2
    cluster.fail("POST", "/jobs$", 503, skip=1)
    client.create(job("second"))
    with pytest.raises(AssertionError, match="never came to pass"):
        cluster.assert_all_faults_fired()
    assert refusal(lambda: client.create(job("third")))[0] == 503
    cluster.assert_all_faults_fired()


def test_a_lost_request_is_not_done_and_a_lost_answer_is(cluster: FakeCluster, client: Client) -> None:
    cluster.drop("POST", "/jobs$")
    cluster.commit_then_drop("POST", "/jobs$")
    for names in ([], ["train"]):
        with pytest.raises(urllib3.exceptions.HTTPError):
            client.create(job())
        assert cluster.names("jobs") == names
    assert refusal(lambda: client.create(job()))[0] == 409


def test_controllers_can_act_between_two_requests(cluster: FakeCluster, client: Client) -> None:
    cluster.then("POST", "/jobs$", lambda: cluster.start_pods("train"))
    cluster.then(
        "GET", "/jobs/", lambda: cluster.set_status("jobs", "train", {"state": {"phase": "Completed"}}), skip=1
    )
    client.create(job())
    assert cluster.names("pods") == ["train-node-0", "train-node-1"]
    assert ["status" in client.get() for _ in range(3)] == [False, False, True]
    threading.Thread(target=client.delete).start()
    cluster.until(lambda: not cluster.names("jobs"))


def test_a_role_lets_do_what_it_lists_and_nothing_else() -> None:
    rules = [
        {"apiGroups": ["batch.volcano.sh"], "resources": ["jobs"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": ["jobset.x-k8s.io"], "resources": ["jobsets"], "verbs": ["*"], "resourceNames": ["mine"]},
    ]
    queues = {"apiGroups": ["scheduling.volcano.sh"], "resources": ["queues"], "verbs": ["get"]}
    with FakeCluster(rules=rules, cluster_rules=[queues]) as cluster:
        client = Client(cluster)
        assert client.list()["items"] == []
        code, told = refusal(lambda: client.create(job()))
        assert (code, told["reason"]) == (403, "Forbidden")
        assert told["message"] == (
            'jobs.batch.volcano.sh is forbidden: User "system:serviceaccount:training:launcher" cannot create resource '
            '"jobs" in API group "batch.volcano.sh" in the namespace "training"'
        )
        assert (
            'pods "a" is forbidden' in refusal(lambda: client.core.read_namespaced_pod("a", "training"))[1]["message"]
        )
        assert refusal(lambda: client.core.read_namespaced_pod_log("a", "training"))[0] == 404
        assert refusal(lambda: client.get("mine", JOBSET))[0] == 404
        assert refusal(lambda: client.get("yours", JOBSET))[0] == 403
        assert client.custom.get_cluster_custom_object("scheduling.volcano.sh", "v1beta1", "queues", "default")
        elsewhere = ("batch.volcano.sh", "v1alpha1", "default", "jobs")
        assert refusal(lambda: client.list(elsewhere))[0] == 403
        everywhere = refusal(lambda: client.core.list_pod_for_all_namespaces())[1]["message"]
        assert everywhere.endswith('cannot list resource "pods" in API group "" at the cluster scope')


def test_every_request_is_known_by_the_right_it_needs(cluster: FakeCluster, client: Client) -> None:
    client.create(job())
    client.list()
    client.get()
    cluster.start_pods("train", 1)
    client.log("train-node-0").drain_conn()
    client.raw("GET", "/apis/batch.volcano.sh/v1alpha1/namespaces/training/jobs/train/status").drain_conn()
    client.raw("GET", "/api/v1/namespaces/training/events", watch="true", timeoutSeconds="0.1").drain_conn()
    client.delete()
    client.custom.delete_collection_namespaced_custom_object(*VOLCANO)
    verbs = ("create", "list", "get", "delete", "deletecollection")
    assert cluster.used() == {
        *((verb, "batch.volcano.sh", "jobs", "training") for verb in verbs),
        ("get", "batch.volcano.sh", "jobs/status", "training"),
        ("get", "", "pods/log", "training"),
        ("watch", "", "events", "training"),
    }


def test_a_mistake_in_what_a_test_tells_the_cluster_is_not_swallowed() -> None:
    with pytest.raises(KeyError, match="nobody"), FakeCluster() as cluster:
        cluster.then("GET", "/jobs$", lambda: cluster.start_pods("nobody"))
        with pytest.raises(urllib3.exceptions.HTTPError):
            Client(cluster).list()
