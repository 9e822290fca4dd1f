"""What stands beside launching in the manifests: TensorBoard, who reaches whom, a key for the bucket, Katib."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

import hqclip
from hqclip.cli import parse
from hqclip.evaluate.stage import _summary
from hqclip.launch.pod_security import AGAINST
from hqclip.records import BenchmarkScore, Evaluation
from tests.rendering import Json, rendered, template
from tests.test_manifests import MANIFESTS, compose, find, readme, render, selects


@pytest.mark.parametrize(
    ("folder", "ports"),
    [("base", [53, 53, 443, 6443]), ("overlays/gke", [53, 53, 443, 6443, 80, 988]), ("overlays/kubeflow", [])],
)
def test_a_namespace_of_its_own_is_shut_but_for_what_is_needed(folder: str, ports: list[int]) -> None:
    policies = {obj["metadata"]["name"]: obj["spec"] for obj in render(folder) if obj["kind"] == "NetworkPolicy"}
    shut = policies.pop("hqclip-default-deny", None)
    if folder == "overlays/kubeflow":  # Kubeflow's own pods live there
        assert shut is None and all(spec["podSelector"] for spec in policies.values())
        return
    assert shut == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    janitor = find(render(folder), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    for labels in (janitor, {"app.kubernetes.io/name": "hqclip-launcher"}):
        (policy,) = (spec for spec in policies.values() if selects(spec["podSelector"], labels))
        assert "ingress" not in policy
        assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == ports


def test_a_store_on_another_port_is_let_through_for_all_who_read_it_and_nobody_else(tmp_path: Path) -> None:
    of_store = [{"ports": [{"protocol": "TCP", "port": 4443}]}]
    for folder in ("base", "overlays/gke", "overlays/onprem", "overlays/kubeflow"):
        here = tmp_path / folder
        parts = f"resources: [../../{folder}]\ncomponents: [../../components/store-port]\n"
        before = {obj["metadata"]["name"]: obj for obj in render(folder) if obj["kind"] == "NetworkPolicy"}
        after = {obj["metadata"]["name"]: obj for obj in compose(here, parts) if obj["kind"] == "NetworkPolicy"}
        assert after.keys() == before.keys()
        for name, policy in after.items():
            old = before[name]["spec"].get("egress", [])
            assert policy["spec"].get("egress", []) == old + ([] if name == "hqclip-default-deny" else of_store)
            kubernetes_validate.validate(policy, "1.32", strict=True)


def test_a_server_of_ones_own_is_let_through_as_the_readme_says(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"^```yaml\n(patches:\n.*?)```", readme(), re.MULTILINE | re.DOTALL)
    objects = compose(tmp_path, "resources: [../../base]\n" + recipe)
    policy = find(objects, "NetworkPolicy", "hqclip-workers")["spec"]
    ports = [rule["ports"][0]["port"] for rule in policy["egress"][1:]]
    assert ports == [53, 443, 8000]
    assert find(objects, "NetworkPolicy", "hqclip-clients") == find(render("base"), "NetworkPolicy", "hqclip-clients")


@pytest.mark.parametrize("folder", ["overlays/gke", "overlays/onprem"])
def test_tensorboard_sees_the_store_through_its_side_car_and_nobody_reaches_it(folder: str) -> None:
    objects = render(folder)
    pod = find(objects, "Deployment")["spec"]["template"]
    sync, board = pod["spec"]["containers"]
    (store,) = (variable["value"] for variable in sync["env"] if variable["name"] == "STORE")
    assert sync["command"][:3] == ["python", "-m", "hqclip.sync"] and "$(STORE)" in sync["command"]
    mounts = {mount["name"]: mount for mount in board["volumeMounts"]}
    assert mounts["events"] == {"name": "events", "mountPath": "/events", "readOnly": True} and "store" not in mounts
    assert store == ("s3" if folder == "overlays/onprem" else "gs") + "://BUCKET/hqclip"
    service = find(objects, "Service")["spec"]
    assert service["type"] == "ClusterIP" and selects({"matchLabels": service["selector"]}, pod["metadata"]["labels"])
    assert service["ports"][0]["targetPort"] == board["ports"][0]["name"]
    policies = [obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy" and obj["spec"]["podSelector"]]
    (policy,) = (spec for spec in policies if selects(spec["podSelector"], pod["metadata"]["labels"]))
    assert "Ingress" in policy["policyTypes"] and "ingress" not in policy
    assert [container["image"].rpartition(":")[2] for container in (sync, board)] == [hqclip.__version__] * 2


def test_a_key_reaches_all_who_read_the_bucket(tmp_path: Path) -> None:
    parts = "[../../components/tensorboard, ../../components/gcs-key]"
    objects = compose(tmp_path, f"resources: [../../base]\ncomponents: {parts}\n")
    janitor = find(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    board = find(objects, "Deployment")["spec"]["template"]
    (told,) = re.findall(r"--volumes (\S+) --env (\S+)", readme())
    worker = template(rendered("volcano", volumes=[told[0]], env=[told[1]]))
    for pod in (janitor, board, worker):
        spec = pod["spec"]
        (volume,) = (v["name"] for v in spec["volumes"] if v.get("secret", {}).get("secretName") == "hqclip-gcs")
        seen = [c for c in spec["containers"] if volume in [mount["name"] for mount in c["volumeMounts"]]]
        (container,) = seen
        (where,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == volume)
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert variables["GOOGLE_APPLICATION_CREDENTIALS"] == f"{where}/key.json"
        assert AGAINST["restricted"](pod) == []


def test_on_own_machines_all_who_read_the_store_reach_it_with_the_keys_of_kubeflow() -> None:
    objects = render("overlays/onprem")
    janitor = find(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    board = find(objects, "Deployment")["spec"]["template"]
    ((env, secret_env),) = re.findall(r"--env (AWS\S+) \\\n +--secret-env (\S+)", readme())
    worker = template(rendered("volcano", env=env.split(","), secret_env=secret_env.split(",")))
    told = []
    for pod in (janitor, board, worker):
        container = next(c for c in pod["spec"]["containers"] if any("AWS" in v["name"] for v in c["env"]))
        told.append({v["name"]: v for v in container["env"] if v["name"].startswith("AWS_")})
        assert AGAINST["restricted"](pod) == []
    assert told[0] == told[1] == told[2]
    assert set(told[0]) == {"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    address = urlsplit(told[0]["AWS_ENDPOINT_URL"]["value"])
    for pod in (janitor, board, worker):
        policies = [obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy" and obj["spec"]["podSelector"]]
        (policy,) = (spec for spec in policies if selects(spec["podSelector"], pod["metadata"]["labels"]))
        assert {"ports": [{"protocol": "TCP", "port": address.port}]} in policy["egress"]
    (create,) = re.findall(
        r"create secret generic (\S+) --from-literal=(\w+)=ACCESS --from-literal=(\w+)=SECRET", readme()
    )
    named = [told[0][name]["valueFrom"]["secretKeyRef"] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    assert named == [{"name": create[0], "key": key} for key in create[1:]]


def test_kubeflows_store_lets_in_the_namespace_of_jobs_at_the_port_that_is_asked() -> None:
    policy = yaml.safe_load((MANIFESTS / "components/s3/kubeflow-ingress.yaml").read_text())
    kubernetes_validate.validate(policy, "1.32", strict=True)
    environment = find(render("overlays/onprem"), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "containers"
    ][0]["env"]
    (address,) = (urlsplit(v["value"]) for v in environment if v["name"] == "AWS_ENDPOINT_URL")
    assert address.hostname == f"seaweedfs.{policy['metadata']['namespace']}"
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": address.port}]
    names = {obj["metadata"].get("namespace") for obj in render("overlays/onprem") if obj["kind"] == "CronJob"}
    (source,) = rule["from"]
    assert {source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]} == names


def trial(**given: str) -> Json:
    """The Job that Katib makes of the example for these values."""
    experiment = find(render("examples/katib"), "Experiment")["spec"]
    values = {"learning-rate": "0.0007", "negative-weight": "0.25", "${trialSpec.Name}": "lr-x7f2", **given}
    text = yaml.safe_dump(experiment["trialTemplate"]["trialSpec"], width=1000)
    for parameter in experiment["trialTemplate"]["trialParameters"]:
        text = text.replace(f"${{trialParameters.{parameter['name']}}}", values[parameter["reference"]])
    assert "${" not in text
    return {**yaml.safe_load(text), "metadata": {"name": "lr-x7f2", "namespace": "team-a"}}


def test_a_trial_of_katib_is_a_valid_job_that_trains_and_judges_the_same_run() -> None:
    job = trial()
    kubernetes_validate.validate(job, "1.32", strict=True)
    pod = job["spec"]["template"]
    assert AGAINST["restricted"](pod) == []
    (first,), (then,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    train, _ = parse(first["command"][1], first["command"][2:])
    judge, _ = parse(then["command"][1], then["command"][2:])
    assert (train.learning_rate, train.negative_weight, train.run) == (0.0007, 0.25, "katib-lr-x7f2")
    assert (judge.model, judge.store) == (f"runs/{train.run}/model", train.store)
    spec = find(render("examples/katib"), "Experiment")["spec"]
    assert spec["trialTemplate"]["primaryContainerName"] == then["name"]
    # Katib's webhook joins the words of the primary container for a shell
    assert all(re.fullmatch(r"[\w./:=-]+", word) for word in then["command"])
    policy = find(render("examples/katib"), "NetworkPolicy")["spec"]
    assert selects(policy["podSelector"], pod["metadata"]["labels"])


def test_katib_finds_the_average_in_what_evaluate_prints() -> None:
    spec = find(render("examples/katib"), "Experiment")["spec"]
    (form,) = spec["metricsCollectorSpec"]["source"]["filter"]["metricsFormat"]
    score = BenchmarkScore("imagenet", "classification", {"main": 0.5, "top1": 0.5}, "main", 100, (0.4, 0.6))
    evaluation = Evaluation(
        model="runs/x/model",
        model_digest="a1",
        suite="average",
        suite_digest="b2",
        benchmarks=(score,),
        average=0.4321,
        outcomes="evaluations/a1/b2.outcomes.parquet",
    )
    printed = json.dumps(_summary(evaluation, "evaluations/a1/b2.json"), indent=1)
    found = re.findall(form, printed)
    assert [value for name, value in found if name == spec["objective"]["objectiveMetricName"]] == ["0.4321"]
    assert re.findall(form, '"average": 1e-05') == [("average", "1e-05")]


def test_who_tells_of_absent_runs_may_look_send_and_nothing_more(tmp_path: Path) -> None:
    objects = compose(tmp_path, "resources: [../../base]\ncomponents: [../../components/notify]\n")
    for obj in objects:
        if obj["kind"] != "PriorityClass":
            kubernetes_validate.validate(obj, "1.32", strict=True)
    pod = find(objects, "CronJob", "hqclip-notify")["spec"]["jobTemplate"]["spec"]["template"]
    assert AGAINST["restricted"](pod) == []
    (container,) = pod["spec"]["containers"]
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    words = [given[word[2:-1]] if word.startswith("$(") else word for word in container["command"]]
    settings, _ = parse("notify watch", words[3:])
    assert settings.to_mapping() | {"expect_every_hours": 24.0, "store": "gs://BUCKET/hqclip"} == settings.to_mapping()
    assert container["envFrom"] == [{"secretRef": {"name": "hqclip-notify"}}]
    assert find(objects, "Role", "hqclip-notify")["rules"] == [
        {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["list"]}
    ]
    (subject,) = find(objects, "RoleBinding", "hqclip-notify")["subjects"]
    assert subject["name"] == pod["spec"]["serviceAccountName"] == "hqclip-notify"
    policies = [obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy" and obj["spec"]["podSelector"]]
    (policy,) = (spec for spec in policies if selects(spec["podSelector"], pod["metadata"]["labels"]))
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 443, 6443, 587]
