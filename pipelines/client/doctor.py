"""`python -m pipelines doctor`: is everything there that a run needs? Every answer says what to do about it.

Looks at this machine, the store and Kubeflow; with --cluster also at Kubernetes, where jobs and the pod of a task are
tried out by dry runs, with the rights of whoever asks, and the account that runs the tasks is asked about. Nothing is
left behind.
"""

from __future__ import annotations

import argparse
import dataclasses
import email.utils
import importlib.metadata
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from components import images
from hqclip.errors import AccessError, ConflictError, MissingSoftwareError
from hqclip.foreign_text import harmless
from hqclip.launch import kube
from hqclip.launch.kubeflow import WORKFLOWS
from hqclip.launch.machines import read_machines
from hqclip.launch.naming import SELECTOR
from hqclip.launch.platform import read_platform
from hqclip.launch.registry import KUBERNETES, load
from hqclip.launch.resolve import make_order
from hqclip.launch.schedulers.jobset import KUEUE
from hqclip.launch.schedulers.protocol import Scheduler
from hqclip.launch.spec import LaunchSpec
from hqclip.launch.submit import create
from hqclip.stages import STAGES
from hqclip.store import Store, in_bucket, open_store
from pipelines.client import connect, notifications, output
from pipelines.client.doctor_platform import named
from pipelines.client.doctor_tasks import nodes, overlays, pod_security, rights_of_tasks
from pipelines.client.finding import FAIL, OK, WARN, Check, Finding, examine, unknown
from pipelines.client.output import say, show
from pipelines.client.project_inputs import shared
from pipelines.client.runs import account_of
from pipelines.compiling import add_platform_argument, add_requests_argument

if TYPE_CHECKING:
    from hqclip.store.s3 import S3Store

FAILED = MissingSoftwareError.exit_code  # 78
ACCOUNTS = ("hqclip-launcher", "hqclip-worker", "hqclip-janitor")
WANTED = ("kfp", "kfp-kubernetes", "kubernetes", "torchx-nightly")
BACKEND_SINCE = (2, 16)  # macros in inputs, drop-downs, runs that outlive their schedule
SKEW_S, MUCH_SKEW_S = 60.0, 300.0
NOBODY = "hqclip-doctor"  # the name of an object that is not there
ANY_STORE = "gs://bucket/hqclip"
_PINNED = re.compile(r"([\w-]+)==([\w.]+)(?:;(.*))?", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "--store", default="", help="root of the store to try: gs:// or s3://bucket/prefix, or a folder (the project's)"
    )
    parser.add_argument("--cluster", action="store_true", help="look at Kubernetes as well")
    parser.add_argument(
        "--notify", action="store_true", help="send a test message to all that HQCLIP_NOTIFY_* name here"
    )
    parser.add_argument(
        "--launch",
        default="",
        metavar="FILE",
        help="machines to try, as for plan_launch (the project's, with --cluster)",
    )
    parser.add_argument("--service-account", default="", help="that runs the tasks, as for run")
    add_requests_argument(parser)
    add_platform_argument(parser)
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Ask everything; 0, or 78 if something fails."""
    given.store = given.store or shared("store")
    if given.cluster:
        given.launch = given.launch or shared("launch")
    rows = []
    for check in checks(given):
        finding = examine(check)
        rows.append({"check": check.name, **dataclasses.asdict(finding)})
        if given.output == "table":
            advice = f"\n      {finding.advice}" if finding.advice and finding.status != OK else ""
            print(f"{finding.status:4}  {check.name}: {finding.found}{advice}", flush=True)
    if given.output != "table":
        show(rows, given.output)
    failed = [row["check"] for row in rows if row["status"] == FAIL]
    say(f"{len(rows)} checks, {len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
    return FAILED if failed else 0


def checks(given: argparse.Namespace) -> Iterator[Check]:
    """All that are asked, in the order in which one leads to the next."""
    yield Check("python", python)
    yield Check("packages", packages)
    yield Check("images", pinned_images)
    yield Check("store", lambda: store(given.store))
    if given.notify or notifications.is_wanted():
        yield Check("notifications", lambda: notifications.check(given.notify))
    api = Api(given)
    yield Check("kubeflow", api.login)
    yield Check("backend", api.backend)
    yield Check("namespace", api.namespace)
    yield Check("clock", api.clock)
    if given.cluster or given.launch:
        cluster = Cluster(given, api)
        yield Check("kubernetes", cluster.reachable)
        for name in KUBERNETES:
            yield Check(name, lambda name=name: cluster.scheduler(load(name)))  # type: ignore[misc]
        yield Check("some scheduler", cluster.some_scheduler)
        yield Check("kueue", cluster.kueue, may_do_without=True)
        yield Check("rights", cluster.rights)
        yield Check("service accounts", cluster.accounts, may_do_without=True)
        machines = Wanted(given.launch)
        if given.launch:
            yield Check("machines", machines.read)
        yield Check("pod security", lambda: cluster.of_tasks(pod_security))
        yield Check("rights of tasks", lambda: cluster.rights_of_tasks(bool(machines.launched)), may_do_without=True)
        platform = read_platform(given.platform)
        look = partial(nodes, requests=given.requests, launched=machines.launched, platform=platform)
        yield Check("nodes", lambda: cluster.of_tasks(look), may_do_without=True)
        if given.platform:
            yield Check("platform", lambda: cluster.of_tasks(partial(named, platform=platform)))
        yield Check("overlays", lambda: cluster.of_tasks(overlays))
        for stage, spec in machines.specs.items():
            yield Check(f"job of {stage}", lambda stage=stage, spec=spec: cluster.job(spec, stage))  # type: ignore[misc]


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Is this Python new enough?"""
    text = ".".join(map(str, version))
    if version < (3, 11):
        return Finding(FAIL, f"Python {text}", "hqclip needs 3.11 or newer")
    return Finding(OK, f"Python {text}")


def packages(installed: Mapping[str, tuple[str, list[str]]] | None = None) -> Finding:
    """Do the packages that speak to clusters fit each other? `installed`: version and requirements by name."""
    there = _installed() if installed is None else installed
    told = ", ".join(f"{name} {there[name][0]}" for name in WANTED if name in there)
    clashes = [
        f"{name} {version} wants {wanted}=={exact}, there is {there[wanted][0]}"
        for name, (version, requirements) in there.items()
        if name in (*WANTED, "torchx")
        for wanted, exact in _exact(requirements)
        if wanted in there and there[wanted][0] != exact
    ]
    if "kfp" not in there:
        return Finding(FAIL, told or "none", "kfp is missing: pip install 'hqclip[pipelines]'")
    if not there["kfp"][0].startswith("2.17."):
        return Finding(FAIL, told, "hqclip needs kfp 2.17: pip install 'hqclip[pipelines]'")
    if any(requirement.startswith("urllib3<1") for requirement in there.get("torchx", ("", []))[1]):
        both = f"{told}, torchx {there['torchx'][0]}"
        return Finding(FAIL, both, "this torchx excludes kfp 2.17: uninstall it, hqclip[launch] has one that does not")
    if clashes:
        return Finding(WARN, "; ".join(clashes), "install into a fresh environment with -c constraints.txt")
    if "torchx-nightly" not in there:
        return Finding(WARN, told, "jobs cannot be launched from here: pip install 'hqclip[launch]'")
    return Finding(OK, told)


def pinned_images() -> Finding:
    """Are the images that a compiled pipeline names known by their digests?"""
    references = [images.ref(role) for role in images.ROLES]
    floating = [reference for reference in references if "@sha256:" not in reference]
    if floating:
        return Finding(
            WARN, f"named by a tag: {', '.join(floating)}", "what a tag names may change: push them, and `make pin`"
        )
    return Finding(OK, f"{len(references)} by digest")


def store(uri: str) -> Finding:
    """Can it be written, read, listed and deleted from, and does it refuse to overwrite?"""
    if not uri:
        return Finding(WARN, "not looked at", "give --store")
    here = open_store(uri)
    if not in_bucket(here.uri) and not Path(here.uri).exists():
        return _new_folder(Path(here.uri))
    if here.uri.startswith("s3://") and (broken := cast("S3Store", here).broken_promises()):
        return Finding(FAIL, f"{uri}: {'; '.join(broken)}", "runs rely on it; take another server, or a newer version")
    key = f"doctor-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}.txt"
    content = key.encode()
    here.write(key, content)
    try:
        if _is_overwritten(here, key):
            return Finding(FAIL, f"{uri} lets what is there be overwritten", "runs rely on it; take another store")
        if here.read(key) != content or key not in list(here.list("doctor-")):
            return Finding(FAIL, f"{uri} does not give back what was written", "is this an object store with a cache?")
    finally:
        here.delete(key)
    return Finding(OK, f"{uri} can be written, read, listed and deleted from, and overwrites nothing")


def _is_overwritten(store: Store, key: str) -> bool:
    """Whether an object that is there gives way to another."""
    try:
        store.write(key, b"another")
    except ConflictError:
        return False
    return True


def _new_folder(folder: Path) -> Finding:
    """Could the first run make it? It is not for us to leave one."""
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return Finding(FAIL, f"{folder} cannot be made: {parent} is no folder that can be written")
    return Finding(OK, f"{folder} is not there yet, and can be made")


class Wanted:
    """The machines of --launch, by stage; nothing before they are read."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.specs: dict[str, LaunchSpec] = {}
        self.launched: list[str] = []  # stages that have machines of their own, those with a fault as well

    def read(self) -> Finding:
        """Does the file say what it may?"""
        machines = read_machines(self._uri)
        self.specs, problems = machines.specs()
        self.launched = [
            stage for stage in machines.sections if stage not in self.specs or self.specs[stage].on_kubernetes
        ]
        if problems:
            return Finding(FAIL, "; ".join(problems), f"mend {self._uri}: a run would be refused with it")
        found = f"{self._uri} has some for {', '.join(self.specs) or 'no stage'}"
        if floating := sorted({spec.image for spec in self.specs.values() if spec.floats}):
            advice = "give name@sha256:..., what a tag names may change"
            return Finding(WARN, f"{found}; named by a tag: {', '.join(floating)}", advice)
        return Finding(OK, found)


class Api:
    """Kubeflow Pipelines, asked once how to reach it."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._is_there = False

    @cached_property
    def _kubeflow(self) -> connect.Kubeflow:
        return connect.connect(self._given)

    def login(self) -> Finding:
        """Is it there, and does it let us in?"""
        kubeflow = self._kubeflow
        self._is_there = True
        users = f"namespace {kubeflow.namespace}" if kubeflow.multi_user else "single user"
        api = kubeflow.client._run_api.api_client
        found = f"{kubeflow.ui or api.configuration.host}, {users}, with {api.rest_client.login}"
        no_pages = "" if kubeflow.ui else "; no links are shown, as it has no pages there: give --ui, or HQCLIP_KFP_UI"
        return Finding(OK, f"{found}{no_pages}")

    def backend(self) -> Finding:
        """Is its version new enough?"""
        if not self._is_there:
            return unknown("kubeflow")
        text, _ = self._health()
        version = str(text.get("tag_name", ""))
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        wanted = ".".join(map(str, BACKEND_SINCE))
        if len(numbers) < 2:
            return Finding(WARN, "it does not say its version", f"hqclip is made for {wanted} or newer")
        if numbers < BACKEND_SINCE:
            lost = "drop-downs are not shown, and replacing a schedule ends a run that is under way"
            return Finding(WARN, f"version {version}", f"hqclip is made for {wanted} or newer: {lost}")
        return Finding(OK, f"version {version}")

    def namespace(self) -> Finding:
        """May we see what is in it?"""
        if not self._is_there:
            return unknown("kubeflow")
        client, name = self._kubeflow.client, self._kubeflow.namespace
        client.list_experiments(page_size=1, namespace=name or None)
        client.list_recurring_runs(page_size=1, namespace=name or None)
        return Finding(OK, f"experiments and schedules of {name or 'the only user'} can be listed")

    def clock(self, ahead_s: float = 0.0) -> Finding:
        """Does this machine, or one that is so much ahead, agree with the server on the time?"""
        if not self._is_there:
            return unknown("kubeflow")
        _, told = self._health()
        if not told:
            return Finding(WARN, "the server does not say what time it is", "")
        try:
            skew = time.time() + ahead_s - email.utils.parsedate_to_datetime(told).timestamp()
        except (ValueError, TypeError):
            return Finding(WARN, f"the server says no time that can be read: {harmless(told)}", "")
        words = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server"
        advice = "set the clock of this machine (e.g. by NTP): logins and leases depend on it"
        status = FAIL if abs(skew) > MUCH_SKEW_S else WARN if abs(skew) > SKEW_S else OK
        return Finding(status, words, advice)

    def account(self) -> str:
        """The service account that runs the tasks, if nothing else is said: Kubeflow's own."""
        return "default-editor" if self._is_there and self._kubeflow.multi_user else "pipeline-runner"

    def pods_namespace(self) -> str:
        """Where the pods of runs are, as the other verbs have it; empty if neither Kubeflow nor flags say so."""
        return self._kubeflow.kubernetes_namespace if self._is_there else connect.pods_namespace(self._given)

    def _health(self) -> tuple[dict[str, Any], str]:
        """What the server says of itself, and when: kfp's own client leaves out what it does not know."""
        api = self._kubeflow.client._run_api.api_client
        path, login = "/apis/v2beta1/healthz", ["Bearer"]
        said, _, headers = api.call_api(path, "GET", response_type="object", auth_settings=login)
        return dict(said or {}), str(headers.get("Date") or "")


class Cluster:
    """Kubernetes, asked once how to reach it."""

    def __init__(self, given: argparse.Namespace, api: Api) -> None:
        self._given, self._api = given, api
        self._is_there = False
        self._serves: list[str] = []

    @cached_property
    def _cluster(self) -> kube.Cluster:
        return kube.connect(self._api.pods_namespace())

    def reachable(self) -> Finding:
        """Is there a cluster, and the namespace in it?"""
        self._cluster.list(kube.CORE, "pods", labelSelector=SELECTOR)
        self._is_there = True
        return Finding(OK, f"namespace {self._cluster.namespace}")

    def scheduler(self, scheduler: Scheduler) -> Finding:
        """Would it take a job of this kind from us?"""
        if not self._is_there:
            return unknown("kubernetes")
        spec = LaunchSpec(scheduler=scheduler.name, image=images.ref("base"), cpus="1", memory="1Gi", shm="64Mi")
        try:
            self._try(spec, "plan", ANY_STORE)
        except MissingSoftwareError as error:
            return Finding(WARN, str(error), "")
        self._cluster.delete(*scheduler.kind, NOBODY)
        self._serves.append(scheduler.name)
        return Finding(OK, "takes a job of ours (dry run)")

    def some_scheduler(self) -> Finding:
        """Is there one at all?"""
        if not self._is_there:
            return unknown("kubernetes")
        if not self._serves:
            return Finding(FAIL, "none works", "stages on many machines need Volcano or JobSet, see docs/operations.md")
        return Finding(OK, " and ".join(self._serves))

    def kueue(self) -> Finding:
        """Which queues are there?"""
        if not self._is_there:
            return unknown("kubernetes")
        served = self._cluster.newest(KUEUE)
        found = [queue["metadata"]["name"] for queue in self._cluster.list(served, "localqueues")] if served else []
        return Finding(
            OK, f"queues: {', '.join(found)}" if found else "no queues here; jobs do without if they name none"
        )

    def rights(self) -> Finding:
        """May we follow a job: its pods, its events, the workflow that owns it?"""
        if not self._is_there:
            return unknown("kubernetes")
        self._cluster.list(kube.CORE, "events", fieldSelector=f"involvedObject.name={NOBODY}")
        self._cluster.get(kube.CORE, "pods", NOBODY)
        self._cluster.get(*WORKFLOWS, NOBODY)
        return Finding(OK, "jobs can be made, deleted and followed, with the rights of whoever asks here")

    def accounts(self) -> Finding:
        """Are the service accounts there that launch, work and clean up?"""
        if not self._is_there:
            return unknown("kubernetes")
        missing = [name for name in ACCOUNTS if self._cluster.get(kube.CORE, "serviceaccounts", name) is None]
        if missing:
            return Finding(FAIL, f"missing: {', '.join(missing)}", "apply manifests/ (see its README)")
        return Finding(OK, ", ".join(ACCOUNTS))

    def of_tasks(self, question: Callable[[kube.Cluster], Finding]) -> Finding:
        """What else is asked of the cluster, about the tasks of runs."""
        return question(self._cluster) if self._is_there else unknown("kubernetes")

    def rights_of_tasks(self, launches: bool) -> Finding:
        """May the tasks launch by the schedulers that are there?"""
        account = self._given.service_account or account_of(self._given.platform) or self._api.account()
        serves = [load(name) for name in self._serves]
        return self.of_tasks(partial(rights_of_tasks, account=account, schedulers=serves, launches=launches))

    def job(self, spec: LaunchSpec, stage: str) -> Finding:
        """Would the cluster take the job of this stage on the machines of --launch, and let it into its queue?"""
        if not self._is_there:
            return unknown("kubernetes")
        if not spec.on_kubernetes:
            return Finding(OK, "runs where it is called")
        self._try(spec, stage, self._given.store or ANY_STORE)
        if self._has_no_queue(spec):
            where = spec.namespace or self._cluster.namespace
            advice = f"make it, or give one of: kubectl -n {where} get localqueues"
            return Finding(FAIL, f"there is no local queue {spec.queue} in namespace {where}: it would wait", advice)
        return Finding(OK, f"{spec.nodes} x {spec.gpus} GPUs by {spec.scheduler} (dry run)")

    def _has_no_queue(self, spec: LaunchSpec) -> bool:
        """Whether Kueue, where we may ask it, lacks the queue that a JobSet names; Volcano refuses such a job."""
        if not spec.queue or spec.scheduler != "jobset":
            return False
        cluster = self._elsewhere(spec)
        served = cluster.newest(KUEUE)
        try:
            return not served or cluster.get(served, "localqueues", spec.queue) is None
        except AccessError:
            return False

    def _elsewhere(self, spec: LaunchSpec) -> kube.Cluster:
        return self._cluster.elsewhere(spec.namespace) if spec.namespace else self._cluster

    def _try(self, spec: LaunchSpec, stage: str, uri: str) -> None:
        """Have the server look at the object that a launch would create, and keep nothing of it."""
        fields = dataclasses.fields(STAGES[stage].settings)
        settings: dict[str, Any] = {f.name: NOBODY for f in fields if f.default is dataclasses.MISSING}
        if "batch_size" in {f.name for f in fields}:
            settings["batch_size"] = 2 * spec.nodes * spec.processes
        order = make_order(spec, stage, {**settings, "store": uri})
        with suppress(kube.AlreadyExists):
            create(self._elsewhere(spec), load(spec.scheduler), order.body, dry_run=True)


def _installed() -> dict[str, tuple[str, list[str]]]:
    """Version and requirements of everything here, by name."""
    there: dict[str, tuple[str, list[str]]] = {}
    for found in importlib.metadata.distributions():
        name = str(found.metadata["Name"] or "").lower().replace("_", "-")
        there.setdefault(name, (found.version, list(found.requires or ())))
    return there


def _exact(requirements: list[str]) -> Iterator[tuple[str, str]]:
    """Names and versions of requirements that allow one version only, on this Python and without extras."""
    for requirement in requirements:
        match = _PINNED.fullmatch(requirement.replace(" ", ""))
        if match and not match[3] or match and match[3] == 'python_version>="3.10"':
            yield match[1].lower(), match[2]
