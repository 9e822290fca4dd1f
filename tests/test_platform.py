"""A platform file: read strictly, carried by the pods of every task and of the workers, part of the version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from hqclip.errors import ConfigError, HQClipError, NotFoundError
from hqclip.launch.layers import layered
from hqclip.launch.machines import read_spec
from hqclip.launch.platform import SHARED, Platform, parse_platform, read_platform, read_workers
from hqclip.launch.pod_security import AGAINST
from hqclip.launch.registry import KUBERNETES
from hqclip.launch.resolve import plan_machines
from hqclip.launch.spec import LaunchSpec
from hqclip.stages import LAUNCHABLE
from pipelines.__main__ import main
from pipelines.carried import MARK
from pipelines.client.versions import read_package
from pipelines.compiling import PIPELINES, compile_pipeline
from pipelines.lint import lint
from pipelines.platform_schema import as_text, schema
from tests import crd_schemas, rendering
from tests.task_pods import Json, pods

FOLDER = Path(__file__).parents[1] / "manifests/platforms"
READY = sorted(FOLDER.glob("*.yaml"))
RICH = """
service_account: default-editor
worker_service_account: hqclip-worker
image_pull_secrets: [registry]
image_pull_policy: Always
env: {HTTPS_PROXY: "http://proxy:3128", PRICE: "$(COST) or $5", DEBUG: true}
secret_env: {HF_TOKEN: hub/token, HUB: hub/token, USER_NAME: hub/user}
config_env: {REGION: site/region}
volumes: ["claim:models:/models", "secret:tls:/etc/tls", "config:ca:/etc/ca", "empty:scratch:/scratch:20Gi"]
shm: 2Gi
node_selector: {pool: batch}
node_affinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a, b]}]}]
  preferredDuringSchedulingIgnoredDuringExecution:
    - {weight: 7, preference: {matchExpressions: [{key: fast, operator: Exists}]}}
tolerations: ["dedicated=vision:NoSchedule", maintenance]
labels: {team: vision}
annotations: {owner: "jane, room 3"}
user: 1234
timeout_s: 3600
gpu_resource: amd.com/gpu
train: {gpus: 2, cpus: 6, memory: 24Gi, env: {DEBUG: "no", RANKS: 2}, node_selector: {gpu: mi300}}
finish: {memory: 300Mi}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """A platform file of this text."""

    def written(text: str, name: str = "platform.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


def compiled(tmp_path: Path, platform: Path, name: str = "refine", launched: tuple[str, ...] = ()) -> Path:
    return compile_pipeline(name, tmp_path / f"{name}.yaml", launched, platform=str(platform))


def env(pod: Json) -> dict[str, Any]:
    """Values, or what they are taken from; no name is there twice."""
    listed = pod["spec"]["containers"][0]["env"]
    found = {one["name"]: one.get("value", one.get("valueFrom")) for one in listed}
    assert len(found) == len(listed)
    return found


def holds(pod: Json) -> None:
    """The API server would take it, and Pod Security `restricted`, and nothing in it is there twice."""
    kubernetes_validate.validate(pod, "1.32", strict=True)
    assert AGAINST["restricted"](pod) == []
    (container,) = pod["spec"]["containers"]
    for listed, key in ((pod["spec"]["volumes"], "name"), (container["volumeMounts"], "mountPath")):
        names = [one[key] for one in listed]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_task_carries_all_of_it(name: str, write: Callable[[str], Path], tmp_path: Path) -> None:
    path = compiled(tmp_path, write(RICH), name)
    assert lint(path) == []
    made = pods(path)
    assert {"refine": "finish", "annotate": "finish", "sweep": "select", "evaluate": "evaluate"}[name] in made
    for task, pod in made.items():
        holds(pod)
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert container["imagePullPolicy"] == "Always"
        at = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        by_name = {volume["name"]: volume for volume in spec["volumes"]}
        assert by_name[at["/models"]]["persistentVolumeClaim"]["claimName"] == "models"
        assert by_name[at["/etc/tls"]]["secret"]["secretName"] == "tls"
        assert by_name[at["/etc/ca"]]["configMap"]["name"] == "ca"
        assert by_name[at["/scratch"]]["emptyDir"] == {"medium": "", "sizeLimit": "20Gi"}
        assert by_name[at["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
        variables = env(pod)
        assert variables["HTTPS_PROXY"] == "http://proxy:3128"
        assert variables["PRICE"] == "$$(COST) or $$5", "which Kubernetes reads as it was written"
        assert variables["DEBUG"] == ("no" if task == "train" else "true")
        assert variables["HF_TOKEN"] == variables["HUB"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
        assert variables["USER_NAME"] == {"secretKeyRef": {"name": "hub", "key": "user"}}
        assert variables["REGION"] == {"configMapKeyRef": {"name": "site", "key": "region"}}
        assert spec["nodeSelector"] == {"pool": "batch", **({"gpu": "mi300"} if task == "train" else {})}
        assert spec["tolerations"] == [
            {"key": "dedicated", "operator": "Equal", "value": "vision", "effect": "NoSchedule"},
            {"key": "maintenance", "operator": "Exists"},
        ]
        wishes = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert wishes[0]["weight"] == 7
        assert "requiredDuringSchedulingIgnoredDuringExecution" in spec["affinity"]["nodeAffinity"]
        assert pod["metadata"]["labels"]["team"] == "vision"
        assert pod["metadata"]["annotations"]["owner"] == "jane, room 3"
        assert container["securityContext"]["runAsUser"] == container["securityContext"]["runAsGroup"] == 1234
        assert container["securityContext"]["runAsNonRoot"] is True
        assert spec["activeDeadlineSeconds"] == 3600


def test_a_stage_has_what_its_section_asks_for(write: Callable[[str], Path], tmp_path: Path) -> None:
    made = pods(compiled(tmp_path, write(RICH)))
    asked = {task: pod["spec"]["containers"][0]["resources"] for task, pod in made.items()}
    assert asked["train"] == {"requests": {"cpu": "6", "memory": "24Gi"}, "limits": {"amd.com/gpu": "2"}}
    assert asked["evaluate"]["limits"] == {"amd.com/gpu": "1"}
    assert asked["finish"]["requests"] == {"cpu": "100m", "memory": "300Mi"}
    small = pods(compiled(tmp_path, write("requests: small\ntrain: {memory: 3Gi}\n")))
    assert small["train"]["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "3Gi"}
    flag = compile_pipeline("refine", tmp_path / "it.yaml", requests="standard", platform=str(FOLDER / "kind.yaml"))
    assert pods(flag)["curate"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "4", "flags win"


@pytest.mark.parametrize("ready", READY, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", PIPELINES)
def test_the_ready_ones_hold_for_tasks_of_every_pipeline(name: str, ready: Path, tmp_path: Path) -> None:
    path = compiled(tmp_path, ready, name)
    assert lint(path) == []
    inputs = {f"platform_{left}": "some-name" for left in read_platform(str(ready)).open_names}
    for pod in pods(path, inputs).values():
        holds(pod)


@pytest.mark.parametrize("scheduler", KUBERNETES)
@pytest.mark.parametrize("ready", READY, ids=lambda path: path.stem)
def test_the_ready_ones_hold_for_workers(ready: Path, scheduler: str, write: Callable[[str], Path]) -> None:
    closed = write(ready.read_text().replace("$registry", "registry"))
    beneath = read_workers(read_platform(str(closed)).workers(["train"]))
    spec = read_spec({"scheduler": scheduler, "image": rendering.IMAGE, "nodes": 2}, stage="train", beneath=beneath)
    body = rendering.rendered(scheduler, **{k: v for k, v in spec.to_mapping().items() if k != "scheduler"})
    assert crd_schemas.check({"volcano": "Job", "jobset": "JobSet"}[scheduler], body) == []
    inside = rendering.template(body)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**inside["metadata"], "name": "x"}, "spec": inside["spec"]}
    kubernetes_validate.validate(pod, "1.32", strict=True)
    assert AGAINST["restricted"](pod) == []


def test_they_are_those_that_are_promised() -> None:
    assert {path.stem for path in READY} == {"gke", "onprem", "kind", "proxy", "private-registry"}
    small = pods_asked(FOLDER / "kind.yaml")
    assert max(small) <= 0.5, "several at once on two cores"


def pods_asked(path: Path) -> list[float]:
    from kubernetes.utils.quantity import parse_quantity

    from pipelines.hardware import asks

    platform = read_platform(str(path))
    asked = [asks(stage, "", platform) for stage in ("plan", "download", "annotate", "score", "curate", "train")]
    assert not any(one.gpus for one in asked)
    return [float(parse_quantity(one.cpu)) for one in asked]


def test_workers_carry_the_same_and_a_secret_is_named_once(write: Callable[[str], Path], tmp_path: Path) -> None:
    path = write(RICH)
    machines = write(
        "scheduler: jobset\nimage: x/y@sha256:00\nenv: {DEBUG: mine, MORE: 1}\ntrain: {nodes: 2, memory: 100Gi}\n",
        "machines.yaml",
    )
    made = compiled(tmp_path, path, launched=("train",))
    workers = next(
        task["inputs"]["parameters"]["workers"]["runtimeValue"]["constant"]
        for component in next(yaml.safe_load_all(made.read_text()))["components"].values()
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "workers" in task.get("inputs", {}).get("parameters", {})
    )
    spec = LaunchSpec.from_mapping(
        plan_machines(str(machines), {"train": rendering.TRAIN}, ["train"], workers)["train"]
    )
    assert (spec.gpus, spec.cpus, spec.memory, spec.gpu_resource) == (2, "6", "100Gi", "amd.com/gpu")
    assert (spec.user, spec.shm, spec.service_account, spec.running_timeout_s) == (1234, "2Gi", "hqclip-worker", 3600)
    assert spec.secret_env == ("HF_TOKEN=hub/token", "HUB=hub/token", "USER_NAME=hub/user")
    assert set(spec.env) == {"HTTPS_PROXY=http://proxy:3128", "PRICE=$(COST) or $5", "RANKS=2", "DEBUG=mine", "MORE=1"}
    pod = rendering.template(
        rendering.rendered("jobset", **{k: v for k, v in spec.to_mapping().items() if k != "scheduler"})
    )
    (worker,) = pod["spec"]["containers"]
    variables = {one["name"]: one for one in worker["env"]}
    assert variables["REGION"]["valueFrom"] == {"configMapKeyRef": {"name": "site", "key": "region"}}
    assert variables["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert {"name": "volume-3", "emptyDir": {"sizeLimit": "20Gi"}} in pod["spec"]["volumes"]
    assert pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]


def test_who_waits_for_a_job_has_what_is_for_all_but_no_deadline(write: Callable[[str], Path], tmp_path: Path) -> None:
    made = pods(compiled(tmp_path, write(RICH), launched=LAUNCHABLE))
    waiting = made["train"]
    assert waiting["spec"]["nodeSelector"] == {"pool": "batch"}
    assert "activeDeadlineSeconds" not in waiting["spec"]
    assert waiting["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    assert env(waiting)["HF_TOKEN"] and "RANKS" not in env(waiting)


def test_names_may_be_left_to_the_runs(write: Callable[[str], Path], tmp_path: Path) -> None:
    text = (
        'volumes: ["claim:$store:/store", "secret:$tls:/tls", "config:$ca:/ca"]\n'
        "secret_env: {HF_TOKEN: $hub/token}\nconfig_env: {REGION: $site/region}\nimage_pull_secrets: [$registry]\n"
    )
    platform = write(text)
    path = compiled(tmp_path, platform)
    assert lint(path) == []
    spec = next(yaml.safe_load_all(path.read_text()))
    told = {k: v for k, v in spec["root"]["inputDefinitions"]["parameters"].items() if k.startswith("platform_")}
    assert set(told) == {f"platform_{name}" for name in ("store", "tls", "ca", "hub", "site", "registry")}
    assert told["platform_hub"]["description"] == "Name of the Secret that the platform leaves open."
    assert told["platform_store"]["parameterType"] == "STRING" and "defaultValue" not in told["platform_store"]
    for pod in pods(path, {name: f"my-{name.removeprefix('platform_')}" for name in told}).values():
        holds(pod)
        assert env(pod)["HF_TOKEN"] == {"secretKeyRef": {"name": "my-hub", "key": "token"}}
        assert pod["spec"]["imagePullSecrets"] == [{"name": "my-registry"}]
        names = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {"my-store", "my-tls", "my-ca"} <= names
    with pytest.raises(ConfigError, match=r"\$\w+ is left to the runs.*train is launched: write the name"):
        compiled(tmp_path, platform, launched=("train",))


def test_what_it_says_is_part_of_the_version_and_how_it_says_it_is_not(write: Callable[[str], Path]) -> None:
    def version(text: str, name: str = "evaluate") -> str:
        return read_package(name, platform=str(write(text))).version

    plain = read_package("evaluate")
    assert version("{}") == plain.version == version("# nothing\n"), "what says nothing changes nothing"
    assert version("env: {A: 1}\nshm: 1Gi\n") == version("# why\nshm: 1Gi\nenv:\n  A: '1'\n")
    assert len({version(f"env: {{A: {value}}}\n") for value in (1, 2)} | {plain.version}) == 3
    assert version("service_account: a\n") != version("service_account: b\n"), "though no pod carries it"


def test_pods_say_by_which_platform_they_are(write: Callable[[str], Path], tmp_path: Path) -> None:
    platform = write("shm: 1Gi\n")
    digest = read_platform(str(platform)).digest
    for pod in pods(compiled(tmp_path, platform)).values():
        assert pod["metadata"]["annotations"] == {MARK: digest[:16]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\nenvv: {A: 1}\n", "line 2: unknown setting envv; did you mean 'env'?"),
        ("train:\n  gpu: 1\n", "line 2: unknown setting train.gpu; did you mean 'gpus'?"),
        ("trian: {gpus: 1}\n", "line 1: unknown setting trian; did you mean 'train'?"),
        ("train:\n  gpus: lots\n", "line 2: train.gpus must be a number, got 'lots'"),
        ("train:\n  gpus: 1.5\n", "line 2: train.gpus must be a whole number, got 1.5"),
        ("env:\n  A: {b: 1}\n", "line 2: env.A is {'b': 1}; give text"),
        ("env:\n  B: 1\n  A: 2026-01-01 10:00:00\n", "line 3: env.A is datetime.datetime("),
        ("env: [A=1, A=2]\n", "line 1: env names 'A' twice; give it once"),
        ("labels: true\n", "line 1: labels must be a list, got True"),
        ("annotations:\n  a b: c\n", "line 1: annotations: 'a b=c' is not like owner=jane"),
        ("train: 4\n", "line 1: train is the section of a stage: give settings below it"),
        ("train:\n  requests: small\n", "line 2: unknown setting train.requests; it belongs to the top of the file"),
        ("cpus: 3\n", "line 1: cpus is of a stage: give it in a section, as `train: {cpus: ...}`, or `requests`"),
        ("timeout_s: 0.5\n", "line 1: timeout_s is 0.5; give whole seconds, 1 or more"),
        ("user: 0\n", "line 1: user is 0; give 1 or more"),
        ("service_account: 3\n", "line 1: service_account is 3; give a name"),
        ("shm:\n", "line 1: shm has no value"),
        ("image_pull_policy: Sometimes\n", "line 1: image_pull_policy is 'Sometimes': give one of IfNotPresent"),
        ("image_pull_secrets: [A_b]\n", "line 1: image_pull_secrets: 'A_b' is no name of a secret"),
        ("env: {HF_TOKEN: hf_abcdefghijklmnop}\n", "give secret_env HF_TOKEN=SECRET/KEY"),
        ("env:\n  HTTPS_PROXY: http://me:pw@proxy\n", "line 1: env: HTTPS_PROXY looks like a secret"),
        ("env: {HQCLIP_NOTIFY_SLACK_URL: http://a}\n", "line 1: env: HQCLIP_NOTIFY_SLACK_URL looks like a secret"),
        ("labels: {token: s3cret}\n", "line 1: labels: token looks like a secret, and who may read"),
        ("train:\n  annotations: {a: hf_abcdefghijklmnop}\n", "line 2: train.annotations: a looks like a secret"),
        ("shm: 1Gi\nenv: {HQCLIP_RUN: x}\n", "line 2: env: HQCLIP_RUN is set by hqclip itself"),
        ("env: {A: 1}\nsecret_env: {A: b/c}\n", "line 2: A is in secret_env and in env; give it once"),
        ("volumes: ['gcs:b:/b']\n", "gcs:b:/b is for workers alone, tasks cannot mount a bucket"),
        ("volumes: ['claim:a:/a:ro']\n", "claim:a:/a is mounted to be written: tasks cannot have one read only"),
        ("volumes: ['claim:a.b:/a']\n", "a volume of a task has the name of what it mounts; give up to 63"),
        ("volumes: ['claim:a:/a', 'secret:a:/b']\n", "volumes: a is there twice"),
        ("volumes: ['claim:a:/a', 'secret:b:/a/']\n", "volumes: /a is mounted twice"),
        ("volumes: ['empty:a:/tmp']\n", "is in the way of what Kubeflow or hqclip mount"),
        ("volumes: ['secret:gcs-scratch:/x']\n", "is in the way of what Kubeflow or hqclip mount"),
        ("volumes: [claim]\n", "line 1: volumes: 'claim' is not like claim:data:/data:ro"),
        ("volumes: ['claim:a:/x']\ntrain:\n  shm: 1Gi\n  volumes: ['secret:a:/y']\n", "line 4: train: volumes: a is"),
        ("a: 1\na: 2\n", "'a' is given twice"),
        ("- 1\n", "give settings, `name: value` a line"),
        ("node_affinity: {required: {}}\n", "node_affinity has no required"),
        (
            "node_affinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {}}]}\n",
            "node_affinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight is 0; give 1 to 100",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(HQClipError) as caught:
        parse_platform(text, "platform p.yaml")
    assert told in str(caught.value)
    assert str(caught.value).startswith("platform p.yaml")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ({"key": "a", "operator": "In"}, "values is missing"),
        ({"key": "a", "operator": "Exists", "values": ["b"]}, "takes none"),
        ({"key": "a", "operator": "Gt", "values": ["b"]}, "takes one whole number"),
        ({"key": "a", "operator": "Inn"}, "operator is 'Inn'"),
        ({"operator": "Exists"}, "key is missing"),
    ],
)
def test_an_affinity_that_no_pod_could_have_is_refused(expression: Json, told: str) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    with pytest.raises(ConfigError, match=told):
        parse_platform(yaml.safe_dump({"node_affinity": affinity}), "it")
    with pytest.raises(ConfigError, match=told):
        LaunchSpec(node_affinity=json.dumps(affinity))


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_platform("envv: 1\ntrain:\n  gpus: x\n  cpu: 1\n", "p")
    assert len(str(caught.value).splitlines()) == 3


def test_what_is_wrong_for_all_is_told_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_platform("volumes: ['gcs:b:/b']\ntrain: {gpus: 1}\nscore: {volumes: ['gcs:c:/c']}\n", "p")
    first, second = str(caught.value).splitlines()
    assert first.startswith("p, line 1: volumes: gcs:b") and second.startswith("p, line 3: score: volumes: gcs:c")


def test_a_value_that_begins_with_a_dollar_is_a_value() -> None:
    platform = parse_platform("env: {A: $home}\n", "it")
    assert platform.open_names == {} and read_workers(platform.workers(["train"])) == {"train": {"env": ["A=$home"]}}


def test_yaml_that_holds_itself_is_refused() -> None:
    with pytest.raises(ConfigError):
        parse_platform("env: &a {b: *a}\n", "it")


def test_the_schema_is_the_file_that_editors_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["platform"]) == 0
    shipped = (FOLDER / "platform.schema.json").read_text()
    assert capsys.readouterr().out == as_text() == shipped, "python -m pipelines platform writes it"
    jsonschema.Draft7Validator.check_schema(json.loads(shipped))
    for path in READY:
        assert path.read_text().startswith("# yaml-language-server: $schema=platform.schema.json\n")


def by_schema(text: str) -> bool:
    return bool(jsonschema.Draft7Validator(schema()).is_valid(yaml.safe_load(text)))


def by_reader(text: str) -> bool:
    try:
        parse_platform(text, "it")
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("text", [RICH, *(path.read_text() for path in READY), "train:\n", "train: {gpus: 0}\n"])
def test_what_is_right_is_right_for_both(text: str) -> None:
    assert by_schema(text) and by_reader(text)


@pytest.mark.parametrize("name", [*SHARED, "service_account", "requests"])
@pytest.mark.parametrize("value", ["{a: {b: c}}", "[[1]]"])
def test_what_no_setting_can_be_is_wrong_for_both(name: str, value: str) -> None:
    text = f"train: {{{name}: {value}}}\n" if name in SHARED else f"{name}: {value}\n"
    assert not by_schema(text) and not by_reader(text)


@pytest.mark.parametrize(
    "text", ["envv: {}\n", "train: {envv: {}}\n", "cpus: 1\n", "user: 0\n", "timeout_s: 0\n", "train: {gpus: 65}\n"]
)
def test_what_is_wrong_is_wrong_for_both(text: str) -> None:
    assert not by_schema(text) and not by_reader(text)


def test_it_goes_where_something_is_compiled_and_nowhere_else(
    write: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform, made = str(write("service_account: default-editor\nshm: 1Gi\n")), tmp_path / "made.yaml"
    assert main(["compile", "evaluate", "--platform", platform, "--allow-tags", "-o", str(made)]) == 0
    assert "--service-account default-editor" in capsys.readouterr().err, "which Kubeflow sets for a run"
    assert made.read_bytes() == read_package("evaluate", platform=platform).text
    assert main(["lint", "evaluate", "--platform", platform]) == 0
    refused = [
        ["upload", str(made), "--platform", platform],
        ["lint", str(made), "--platform", platform],
        ["run", "evaluate", "--version", "latest", "--platform", platform],
        ["run", "evaluate", "--local", "--platform", platform],
        ["sweep", "--local", "--platform", platform, "--grid", "train.learning_rate=1e-3,1e-4"],
    ]
    for words in refused:
        assert main(words) == 64, words
        assert "--platform" in capsys.readouterr().err
    assert main(["compile", "evaluate", "--platform", "nowhere.yaml", "-o", str(made)]) == NotFoundError.exit_code
    assert main(["compile", "evaluate", "--platform", str(write("requests: tiny\n")), "-o", str(made)]) == 64
    assert "requests is 'tiny'" in capsys.readouterr().err


def test_lists_of_named_things_are_added_to_and_single_values_replaced() -> None:
    lower = {"env": ["A=1", "B=1"], "volumes": ["claim:a:/a", "claim:b:/b"], "tolerations": ["x"], "shm": "1Gi"}
    upper = {"secret_env": ["A=s/k"], "volumes": ["empty:c:/b"], "tolerations": ["x", "y"], "shm": "2Gi"}
    assert layered(lower, upper) == {
        "env": ["B=1"],
        "secret_env": ["A=s/k"],
        "volumes": ["claim:a:/a", "empty:c:/b"],
        "tolerations": ["x", "y"],
        "shm": "2Gi",
    }
    assert layered({"env": ["A=1"]}, {"env": "A=2,C=3"})["env"] == ["A=2", "C=3"], "as flags have lists"


def test_no_file_is_no_platform() -> None:
    assert read_platform("") == Platform() and Platform().digest == "" and Platform().workers(["train"]) == ""
