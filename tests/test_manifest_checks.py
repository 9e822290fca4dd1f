"""Rules of the kind that scanners of manifests have, for all that is rendered; and the commands that its pages tell."""

from __future__ import annotations

import argparse
import copy
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqclip import __version__
from hqclip.cli import GROUPS, parse
from hqclip.launch.commands import read_words
from hqclip.launch.config import LaunchRunConfig
from hqclip.launch.pod_security import AGAINST
from pipelines.client import promote_version, schedules, versions
from tests.fakes.kubeflow import FakeKubeflow
from tests.rendering import TRAIN, Json
from tests.test_manifest_parts import trial
from tests.test_manifests import CLUSTER_WIDE, FOLDERS, MANIFESTS, compose, find, render, selects

ALL = "all components"
RENDERED = (*FOLDERS, "examples/katib", ALL)
SCHEDULED = "examples/scheduled/README.md"
PAGES = sorted(str(path.relative_to(MANIFESTS)) for path in MANIFESTS.rglob("README.md"))
Rule = Callable[[list[Json]], list[str]]


@pytest.fixture(scope="module", params=RENDERED)
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """What a folder renders, or all components together; a trial of Katib stands there as the Job it becomes."""
    if request.param == ALL:
        parts = [f"../../components/{name}" for name in ("tensorboard", "gcs-key", "gke", "kubeflow")]
        return compose(
            tmp_path_factory.mktemp("all"), f"namespace: team-a\nresources: [../../base]\ncomponents: {parts}\n"
        )
    found = render(request.param)
    return [*found, trial()] if request.param == "examples/katib" else found


def pods(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """Templates by the name of what makes pods of them."""
    for obj in objects:
        spec = obj.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if obj["kind"] in ("CronJob", "Deployment", "Job"):
            yield obj["metadata"]["name"], spec["template"]


def containers(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    for name, pod in pods(objects):
        for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
            yield f"{name}/{container['name']}", container


def floating_images(objects: list[Json]) -> list[str]:
    return [n for n, c in containers(objects) if not re.search(r":\d+\.\d+\.\d+$|@sha256:", c["image"])]


def no_requests_or_limits(objects: list[Json]) -> list[str]:
    found = {name: container.get("resources", {}) for name, container in containers(objects)}
    wanted = [(kind, what) for kind in ("requests", "limits") for what in ("cpu", "memory")]
    return [
        f"{name}: {kind}.{what}"
        for name, given in found.items()
        for kind, what in wanted
        if what not in given.get(kind, {})
    ]


def no_probes_where_something_runs_for_ever(objects: list[Json]) -> list[str]:
    lasting = [obj for obj in objects if obj["kind"] == "Deployment"]
    wanted = ("readinessProbe", "livenessProbe")
    return [f"{name}: {probe}" for name, c in containers(lasting) for probe in wanted if probe not in c]


def a_root_that_can_be_written(objects: list[Json]) -> list[str]:
    return [n for n, c in containers(objects) if not c.get("securityContext", {}).get("readOnlyRootFilesystem")]


def against_restricted(objects: list[Json]) -> list[str]:
    return [f"{name}: {problem}" for name, pod in pods(objects) for problem in AGAINST["restricted"](pod)]


def no_numeric_user(objects: list[Json]) -> list[str]:
    return [name for name, pod in pods(objects) if not pod["spec"]["securityContext"].get("runAsUser", 0) > 0]


def volumes_without_a_limit(objects: list[Json]) -> list[str]:
    volumes = [(name, volume) for name, pod in pods(objects) for volume in pod["spec"]["volumes"]]
    return [f"{name}: {v['name']}" for name, v in volumes if "emptyDir" in v and "sizeLimit" not in v["emptyDir"]]


def wide_rights(objects: list[Json]) -> list[str]:
    """Whole groups or verbs, rights of the whole cluster, and those by which one gets others."""
    roles = [obj for obj in objects if obj["kind"] == "Role"]
    words = [
        (role["metadata"]["name"], word)
        for role in roles
        for rule in role["rules"]
        for word in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
    ]
    wide = {
        "*",
        "secrets",
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "roles",
        "rolebindings",
        "serviceaccounts/token",
    }
    wide |= {"bind", "escalate", "impersonate", "deletecollection"}
    of_the_cluster = [obj["metadata"]["name"] for obj in objects if obj["kind"].startswith("ClusterRole")]
    bound = [
        obj["roleRef"]["name"] for obj in objects if obj["kind"] == "RoleBinding" and obj["roleRef"]["kind"] != "Role"
    ]
    return [f"{name}: {word}" for name, word in words if word in wide] + of_the_cluster + bound


def tokens_for_nothing(objects: list[Json]) -> list[str]:
    """Accounts and pods that get a token though no role is bound to them."""
    subjects = [subject for obj in objects if obj["kind"] == "RoleBinding" for subject in obj["subjects"]]
    bound = {subject["name"] for subject in subjects}
    accounts = {
        o["metadata"]["name"]: o.get("automountServiceAccountToken", True)
        for o in objects
        if o["kind"] == "ServiceAccount"
    }
    found = [name for name, mounted in accounts.items() if mounted and name not in bound]
    for name, pod in pods(objects):
        account = pod["spec"].get("serviceAccountName", "default")
        if pod["spec"].get("automountServiceAccountToken", accounts.get(account, True)) and account not in bound:
            found.append(name)
    return found


def no_namespace(objects: list[Json]) -> list[str]:
    return [
        o["metadata"]["name"] for o in objects if o["kind"] not in CLUSTER_WIDE and not o["metadata"].get("namespace")
    ]


def names_that_are_not_ours(objects: list[Json]) -> list[str]:
    names = [obj["metadata"]["name"] for obj in objects if obj["kind"] != "Job"]
    return [name for name in names if not re.fullmatch("hqclip(-[a-z0-9-]+)?", name)]


def an_open_namespace(objects: list[Json]) -> list[str]:
    """A Namespace without Pod Security or a policy that denies, and pods of which no policy tells what they reach."""
    policies = [obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy"]
    shut = any(p["podSelector"] == {} and set(p["policyTypes"]) == {"Ingress", "Egress"} for p in policies)
    spaces = [obj for obj in objects if obj["kind"] == "Namespace"]
    found = ["default deny" for _ in spaces if not shut]
    found += [
        f"{key}"
        for o in spaces
        for key in ("enforce", "warn")
        if f"pod-security.kubernetes.io/{key}" not in o["metadata"]["labels"]
    ]
    telling = [policy["podSelector"] for policy in policies if policy.get("egress")]
    return found + [n for n, pod in pods(objects) if not any(selects(s, pod["metadata"]["labels"]) for s in telling)]


def ways_in_from_outside(objects: list[Json]) -> list[str]:
    found = [obj["metadata"]["name"] for obj in objects if obj["kind"] in ("Ingress", "HTTPRoute", "Gateway")]
    return found + [
        o["metadata"]["name"] for o in objects if o["kind"] == "Service" and o["spec"].get("type") != "ClusterIP"
    ]


def secrets_in_the_open(objects: list[Json]) -> list[str]:
    found = [obj["metadata"]["name"] for obj in objects if obj["kind"] == "Secret"]
    literal = [(name, v) for name, c in containers(objects) for v in c.get("env", []) if "value" in v]
    return found + [f"{n}: {v['name']}" for n, v in literal if re.search("TOKEN|PASSWORD|SECRET|KEY$", v["name"])]


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(floating_images, no_requests_or_limits, no_probes_where_something_runs_for_ever, a_root_that_can_be_written),
        *(against_restricted, no_numeric_user, volumes_without_a_limit, wide_rights, tokens_for_nothing, no_namespace),
        *(names_that_are_not_ours, an_open_namespace, ways_in_from_outside, secrets_in_the_open),
    )
}


@pytest.mark.parametrize("rule", RULES)
def test_nothing_that_is_rendered_breaks_a_rule(objects: list[Json], rule: str) -> None:
    assert list(pods(objects))
    assert RULES[rule](objects) == []


def _board(objects: list[Json]) -> Json:
    return find(objects, "Deployment")["spec"]["template"]["spec"]


def _without(kind: str, name: str) -> Callable[[list[Json]], None]:
    return lambda objects: objects.remove(find(objects, kind, name))


SPOILED: list[tuple[str, Callable[[list[Json]], Any]]] = [
    ("floating_images", lambda o: _board(o)["containers"][0].update(image="hqclip/base:latest")),
    ("floating_images", lambda o: _board(o)["containers"][0].update(image="hqclip/base")),
    ("no_requests_or_limits", lambda o: _board(o)["containers"][1]["resources"]["limits"].pop("memory")),
    ("no_probes_where_something_runs_for_ever", lambda o: _board(o)["containers"][0].pop("livenessProbe")),
    (
        "a_root_that_can_be_written",
        lambda o: _board(o)["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
    ),
    ("against_restricted", lambda o: _board(o)["securityContext"].update(runAsNonRoot=False)),
    ("against_restricted", lambda o: _board(o)["volumes"].append({"name": "node", "hostPath": {"path": "/"}})),
    ("no_numeric_user", lambda o: _board(o)["securityContext"].pop("runAsUser")),
    ("volumes_without_a_limit", lambda o: _board(o)["volumes"].append({"name": "more", "emptyDir": {}})),
    ("wide_rights", lambda o: find(o, "Role", "hqclip-janitor")["rules"][0]["verbs"].append("*")),
    ("wide_rights", lambda o: find(o, "Role", "hqclip-janitor")["rules"][0]["resources"].append("secrets")),
    ("wide_rights", lambda o: find(o, "RoleBinding", "hqclip-janitor")["roleRef"].update(kind="ClusterRole")),
    ("wide_rights", lambda o: o.append({"kind": "ClusterRoleBinding", "metadata": {"name": "hqclip-all"}})),
    ("tokens_for_nothing", lambda o: find(o, "ServiceAccount", "hqclip-worker").pop("automountServiceAccountToken")),
    ("tokens_for_nothing", lambda o: _board(o).update(automountServiceAccountToken=True)),
    ("tokens_for_nothing", _without("RoleBinding", "hqclip-janitor")),
    ("no_namespace", lambda o: find(o, "Service")["metadata"].pop("namespace")),
    ("names_that_are_not_ours", lambda o: find(o, "Service")["metadata"].update(name="tensorboard")),
    ("an_open_namespace", _without("NetworkPolicy", "hqclip-default-deny")),
    ("an_open_namespace", _without("NetworkPolicy", "hqclip-clients")),
    ("an_open_namespace", lambda o: find(o, "Namespace")["metadata"].update(labels={})),
    ("ways_in_from_outside", lambda o: find(o, "Service")["spec"].update(type="LoadBalancer")),
    ("secrets_in_the_open", lambda o: _board(o)["containers"][0]["env"].append({"name": "HF_TOKEN", "value": "x"})),
]


def test_every_rule_is_spoiled_below() -> None:
    assert {rule for rule, _ in SPOILED} == set(RULES)


@pytest.mark.parametrize(("rule", "spoil"), SPOILED)
def test_a_rule_sees_what_it_is_for(rule: str, spoil: Callable[[list[Json]], Any]) -> None:
    spoiled = copy.deepcopy(render("overlays/onprem"))
    spoil(spoiled)
    assert RULES[rule](spoiled)


def commands(page: str) -> list[str]:
    """The lines of its blocks of commands, joined where they go on."""
    blocks = re.findall(r"^```\n(.*?)^```", (MANIFESTS / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.match(r"[a-z]+ ", line) and not re.match(r"\S+/ ", line)]


@pytest.mark.parametrize(("page", "line"), [(page, line) for page in PAGES for line in commands(page)])
def test_every_command_of_the_pages_is_one(page: str, line: str) -> None:
    """Run where that needs no cluster; else what it names is there."""
    words = shlex.split(line.partition(" #")[0].partition(" | ")[0].partition(" && ")[0])
    program = words[0]
    if program == "hqclip":
        _is_ours(words[1:])
    elif program == "python":
        assert words[1:3] == ["-m", "pipelines"] and page == SCHEDULED  # run below, in their order
    elif program == "gcloud":
        assert words[1] in ("iam", "storage")  # Google's; the roles are those of tests/test_store_gcs.py
    else:
        assert program == "kubectl"
        _is_of_kubernetes(page, words[1:])


def _is_ours(words: list[str]) -> None:
    if words[:2] == ["launch", "run"]:
        more = [f"--{name}={value}" for name, value in TRAIN.items()]
        at = words.index("...")
        spec, stage, *_ = read_words("launch run", LaunchRunConfig, [*words[2:at], *words[at + 1 :], *more])
        assert stage == "train"
        return
    name = " ".join(words[:2]) if words[0] in GROUPS else words[0]
    parse(name, words[len(name.split()) :])


def _is_of_kubernetes(page: str, words: list[str]) -> None:
    everything = [obj for folder in ("overlays/onprem", "overlays/gke", "examples/katib") for obj in render(folder)]
    named = {f"{obj['kind'].lower()}/{obj['metadata']['name']}" for obj in everything}
    words = words[2:] if words[0] == "-n" else words
    if "-k" in words or words[0] == "kustomize":
        folder = words[words.index("-k") + 1] if "-k" in words else words[1]
        assert render(folder)
    elif "-f" in words and words[0] == "apply":
        assert list(yaml.safe_load_all((MANIFESTS / words[words.index("-f") + 1]).read_text()))
    elif words[:2] in (["create", "rolebinding"], ["create", "secret"]):
        words = [word.replace("=key.json", f"=key.json={MANIFESTS / 'README.md'}") for word in words]
        done = subprocess.run(
            ["kubectl", *words, "--dry-run=client", "-o", "name"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    elif words[:2] == ["auth", "can-i"]:
        (who,) = (word.rpartition(":")[2] for word in words if word.startswith("--as="))
        assert f"serviceaccount/{who}" in named
    else:
        told = re.findall(
            r"\b(cronjob|deployment|service|experiment|namespace)[/ ](hqclip[\w-]*|team-a)", " ".join(words)
        )
        assert told and all(f"{kind}/{name}" in named or name == "team-a" for kind, name in told)


def test_the_page_of_schedules_does_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "manifests" / SCHEDULED
    folder.parent.mkdir(parents=True)
    text = (MANIFESTS / SCHEDULED).with_name("schedule.yaml").read_text()
    folder.with_name("schedule.yaml").write_text(text.replace("BUCKET", "bucket"))  # capitals are filled in
    monkeypatch.chdir(tmp_path)
    lines = commands(SCHEDULED)
    with FakeKubeflow() as kubeflow:
        monkeypatch.setenv("HQCLIP_KFP_HOST", kubeflow.url)
        monkeypatch.setenv("HQCLIP_TAG", __version__)  # images of a checkout have no digests
        for line in [*lines, *lines]:
            verb, *words = shlex.split(line)[3:]
            module = {"upload": versions, "promote-version": promote_version, "schedule": schedules}[verb]
            parser = argparse.ArgumentParser()
            module.add_arguments(parser)
            assert module.run(parser.parse_args(words)) == 0
        made = [row["display_name"] for row in kubeflow.recurring.values()]
    assert sorted(made) == ["judge-champion-weekly", "refine-nightly"]
    assert "0 of 2 changed" in capsys.readouterr().err


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = (MANIFESTS / page).read_text()
        for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", text):
            there = (MANIFESTS / page).parent / target if target else MANIFESTS / page
            assert there.exists(), target
            headings = re.findall(r"^#+ (.*)$", Path(there).read_text(), re.MULTILINE)
            assert not anchor or anchor in [re.sub(r"\W+", "-", heading.lower()).strip("-") for heading in headings]
