"""What a person says about machines: one frozen `LaunchSpec`, every problem reported at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations

from hqclip.errors import ConfigError
from hqclip.known_secrets import HIDDEN, is_said_secret, is_secret, without_secrets
from hqclip.launch.affinity import read_affinity
from hqclip.launch.patches import read_patches
from hqclip.launch.pod_secrets import TOLD, is_secret_variable
from hqclip.launch.profiles import find_network
from hqclip.launch.registry import KUBERNETES, LOCAL, SCHEDULERS, load
from hqclip.settings import Settings, setting

SECURITY = ("restricted", "baseline", "network", "privileged")  # from strict to lax
INT32 = 2**31 - 1
_KEY, _VALUE = (
    r"([a-z0-9][a-z0-9.-]{0,252}/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?",
    r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?",
)
_CORES = re.compile(r"(?=.*[1-9])(\d+(\.\d{1,3})?|\d+m)", re.ASCII).fullmatch
_BYTES = re.compile(r"(?=.*[1-9])(\d{7,}|\d+(\.\d+)?(M|G|T|Mi|Gi|Ti))", re.ASCII).fullmatch
_LABEL = re.compile(f"{_KEY}=({_VALUE})?", re.ASCII).fullmatch
_ANNOTATION = re.compile(f"{_KEY}=.*", re.ASCII | re.DOTALL).fullmatch
_ENV = re.compile(r"[A-Za-z_][\w.-]*=.*", re.ASCII | re.DOTALL).fullmatch
_DEVICE = re.compile(r"[\w.-]+/[\w.-]+=\d+", re.ASCII).fullmatch
_TOLERATION = re.compile(f"{_KEY}(={_VALUE})?(:(NoSchedule|PreferNoSchedule|NoExecute))?", re.ASCII).fullmatch
_VOLUME = re.compile(
    r"(claim|gcs|secret|config):[\w.-]+:/[^:]+(:ro|:rw)?|empty:[\w.-]+:/[^:]+(:(ro|rw|\d+(\.\d+)?(M|G|T|Mi|Gi|Ti)))?",
    re.ASCII,
).fullmatch
_REFERENCE = re.compile(r"[A-Za-z_][\w.-]*=[a-z0-9.-]+/[\w.-]+", re.ASCII).fullmatch
_IMAGE = re.compile(r"[\w][\w./:-]*(@sha256:[0-9a-f]+)?", re.ASCII).fullmatch
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII).fullmatch
_OWN_ENV = (
    *("HQCLIP_NODE", "HQCLIP_ATTEMPT", "HQCLIP_POD", "HQCLIP_POD_IP", "HQCLIP_RENDEZVOUS", "HQCLIP_PARENT"),
    *("HQCLIP_AGENT_NAME", "HQCLIP_AGENT_PID", "HQCLIP_TERMINATION_LOG", "HQCLIP_IMAGE", "HQCLIP_RUN"),
)
_OWN_PATHS = ("/tmp", "/dev/shm")  # noqa: S108 - of the pod


@dataclass(frozen=True, kw_only=True)
class LaunchSpec(Settings):
    """Where and how a stage runs: scheduler, machines, queue, retries, limits, storage, secrets."""

    scheduler: str = setting("what runs the job: processes here, a Volcano Job, or a JobSet", LOCAL, choices=SCHEDULERS)
    profile: str = setting("named hardware: `hqclip launch profiles` lists them; empty for none", "")
    launch_id: str = setting("what the job belongs to, e.g. a Kubeflow run id; part of its name", "")
    image: str = setting("container image of the workers, best by digest (name@sha256:...)", "")
    image_pull_policy: str = setting("when nodes pull it", "IfNotPresent", choices=("IfNotPresent", "Always", "Never"))
    image_pull_secrets: tuple[str, ...] = setting("secrets that open the registry", ())
    namespace: str = setting("Kubernetes namespace; empty is that of this pod, or of the kubeconfig", "")
    service_account: str = setting("of the workers: what reads and writes the bucket", "hqclip-worker")
    labels: tuple[str, ...] = setting("further labels of job and pods, e.g. team=vision", (), pairs=True)
    job_annotations: tuple[str, ...] = setting("further annotations of job and pods, e.g. owner=jane", (), pairs=True)

    nodes: int = setting(
        "pods of the job: nodes of a gang, or replicas that share the work", 1, minimum=1, maximum=4096
    )
    gpus: int = setting("GPUs of each pod", 0, minimum=0, maximum=64)
    nproc: int = setting("processes of a gang on each node; 0 is one for each GPU", 0, minimum=0, maximum=256)
    cpus: str = setting("CPU cores of each pod", "4")
    memory: str = setting("memory of each pod", "16Gi")
    shm: str = setting("size of /dev/shm, counted in memory", "8Gi")
    disk: str = setting("scratch space of each pod; empty asks for none", "")
    devices: tuple[str, ...] = setting("further resources of each pod, e.g. rdma/ib=8", (), pairs=True)
    gpu_resource: str = setting("what the cluster calls a GPU", "nvidia.com/gpu")

    queue: str = setting("Volcano queue, or Kueue local queue; empty is Volcano's default queue and no Kueue", "")
    priority_class: str = setting("priority class of the pods; empty for none", "")
    topology: str = setting(
        "keep the pods close: for volcano the highest tier of its network topology, for jobset a node label of Kueue's "
        "topology, e.g. cloud.google.com/gce-topology-block; empty for no wish",
        "",
    )
    topology_mode: str = setting("whether the wish may be left unmet", "preferred", choices=("preferred", "required"))
    node_selector: tuple[str, ...] = setting("labels that nodes must have, e.g. gpu=h100", (), pairs=True)
    node_affinity: str = setting("nodeAffinity of the pods in the words of Kubernetes, as JSON; empty for none", "")
    tolerations: tuple[str, ...] = setting("taints that the pods bear: key, key=value or key=value:NoSchedule", ())
    spot: bool = setting("run on spot machines of GKE", False)

    network: str = setting("how GPUs of different nodes talk; `hqclip launch profiles` lists them", "sockets")
    rendezvous_port: int = setting("port on node 0 where the ranks meet", 29500, minimum=1024, maximum=65535)
    nccl_debug: str = setting("what NCCL says", "WARN", choices=("WARN", "INFO", "TRACE", "VERSION"))

    retries: int = setting("times the whole job is started again after a failure", 3, minimum=0, maximum=100)
    restarts_in_place: int = setting(
        "times a pod starts its own processes again; for one node, or replicas", 0, minimum=0
    )
    no_progress_attempts: int = setting(
        "failures in a row without progress after which the job is given up; 0 goes on", 2, minimum=0
    )
    pending_timeout_s: float = setting("seconds the job may wait for machines; 0 waits for ever", 86_400.0, minimum=0)
    running_timeout_s: float = setting(
        "seconds the job may run in all; 0 sets no limit", 1_209_600.0, minimum=0, maximum=INT32
    )
    stall_timeout_s: float = setting(
        "seconds without a checkpoint after which a training is stopped; 0 never", 0.0, minimum=0
    )
    rendezvous_timeout_s: float = setting("seconds the ranks wait for each other", 600.0, above=0)
    grace_s: int = setting("seconds between SIGTERM and SIGKILL of a pod: time for a checkpoint", 120, minimum=20)
    lease_stale_s: float = setting(
        "seconds after which workers stop when nobody watches them any more; 0 lets them run", 1_800.0, minimum=0
    )

    volumes: tuple[str, ...] = setting(
        "claim:NAME:/path, gcs:BUCKET:/path, secret:NAME:/path, config:NAME:/path or empty:NAME:/path; at the end :ro "
        "for read only, or a size such as :20Gi that an empty one may grow to",
        (),
    )
    env: tuple[str, ...] = setting(
        'environment variables, NAME=value; never secrets; as JSON where a value has a comma: ["A=b,c"]',
        (),
        pairs=True,
    )
    secret_env: tuple[str, ...] = setting("environment variables from secrets, NAME=secret/key", (), pairs=True)
    config_env: tuple[str, ...] = setting("environment variables from config maps, NAME=config/key", (), pairs=True)
    security: str = setting(
        "Pod Security level that the pods keep, patches or not; network allows what its preset asks for, and no more",
        "restricted",
        choices=SECURITY,
    )
    user: int = setting("numeric user of the pods", 1000, minimum=1)
    ttl_s: int = setting("seconds a finished job stays for people to look at", 86_400, minimum=0, maximum=INT32)
    on_termination: str = setting(
        "what SIGTERM to the launcher does to the job", "cancel", choices=("cancel", "detach")
    )
    follow: str = setting("whose output is shown", "rank0", choices=("rank0", "all", "none"))
    again: bool = setting("start what has failed for good once more", False)
    patches: str = setting('changes to what is rendered, as JSON: [{"target": "pod", "patch": {...}}, ...]', "[]")

    def conflicts(self) -> list[str]:
        """Everything that is wrong with the settings taken together."""
        given = {item.partition("=")[0] for item in (*self.env, *self.secret_env, *self.config_env)}
        own = [f"env: {name} is set by hqclip itself" for name in _OWN_ENV if name in given]
        return [
            *own,
            *self._told_secrets(),
            *self._bad_items(),
            *self._bad_scale(),
            *self._bad_cluster(),
            *read_affinity(self.node_affinity)[1],
            *read_patches(self.patches)[1],
        ]

    def _told_secrets(self) -> list[str]:
        told = [
            f"env: {name} {TOLD}; give secret_env {name}=SECRET/KEY"
            for name, _, value in (item.partition("=") for item in self.env)
            if is_secret_variable(name, value)
        ]
        for where in ("labels", "job_annotations"):
            told += [
                f"{where}: {name} {TOLD}; leave it out, or give it to the pods by secret_env NAME=SECRET/KEY"
                for name, _, value in (item.partition("=") for item in getattr(self, where))
                if is_said_secret(name, value)
            ]
        return told

    def _bad_items(self) -> list[str]:
        forms = {
            "labels": (_LABEL, "team=vision"),
            "job_annotations": (_ANNOTATION, "owner=jane"),
            "node_selector": (_LABEL, "gpu=h100"),
            "env": (_ENV, "NAME=value"),
            "secret_env": (_REFERENCE, "HF_TOKEN=hub/token"),
            "config_env": (_REFERENCE, "HTTPS_PROXY=proxy/https"),
            "devices": (_DEVICE, "rdma/ib=8"),
            "tolerations": (_TOLERATION, "key=value:NoSchedule"),
            "volumes": (_VOLUME, "claim:data:/data:ro"),
        }
        problems = [
            f"{name}: {_shown(item)!r} is not like {example}"
            for name, (form, example) in forms.items()
            for item in getattr(self, name)
            if not form(item)
        ]
        if not _CORES(self.cpus):
            problems.append(f"cpus is {self.cpus!r}; give a number of cores such as 8, 0.5 or 500m")
        for name in ("memory", "shm", "disk"):
            size = getattr(self, name)
            if not _BYTES(size) and (size or name != "disk"):
                problems.append(f"{name} is {size!r}; give a Kubernetes quantity such as 512Mi or 32Gi")
        return problems

    def _bad_words(self) -> list[str]:
        """Names that Kubernetes would refuse."""
        names = ("namespace", "service_account", "queue", "priority_class")
        wrong = [name for name in names if getattr(self, name) and not _NAME(getattr(self, name))]
        return [f"{name} is {getattr(self, name)!r}; give small letters, digits, dots and dashes" for name in wrong]

    def _bad_names(self) -> list[str]:
        """Two things of one name in a pod, which Kubernetes refuses."""
        kinds = ("env", "secret_env", "config_env")
        named = {kind: {item.partition("=")[0] for item in getattr(self, kind)} for kind in kinds}
        problems = [
            f"{name} is both in {one} and {other}"
            for one, other in combinations(kinds, 2)
            for name in sorted(named[one] & named[other])
        ]
        paths = [*_OWN_PATHS, *(item.split(":")[2].rstrip("/") for item in self.volumes if _VOLUME(item))]
        problems += [f"volumes: {path} is mounted twice" for path in sorted(set(paths)) if paths.count(path) > 1]
        return problems

    def _bad_scale(self) -> list[str]:
        problems = []
        if self.nproc and self.gpus and self.gpus % self.nproc:
            problems.append(f"nproc is {self.nproc}, which does not divide the {self.gpus} gpus of a node")
        if self.lease_stale_s and self.lease_stale_s < 60:
            problems.append(
                f"lease_stale_s is {self.lease_stale_s:g}; give 0 or 60 or more, the lease is renewed every 10 s"
            )
        return problems

    def _bad_cluster(self) -> list[str]:
        if not self.on_kubernetes:
            return []
        problems = [*self._bad_words(), *self._bad_names()]
        if _BYTES(self.shm) and _BYTES(self.memory) and _size(self.shm) > _size(self.memory):
            problems.append(
                f"shm is {self.shm}, which is more than the memory of {self.memory} that it is counted in; give less "
                "shm, or more memory"
            )
        if not self.image:
            problems.append(f"image is missing: {self.scheduler} runs the workers in containers")
        if self.image and not _IMAGE(self.image):
            problems.append(f"image is {self.image!r}; give registry/name@sha256:... or registry/name:tag")
        level = SECURITY.index(self.security)
        try:
            needed = str(find_network(self.network).get("security", SECURITY[0]))
        except ConfigError as error:
            problems.append(str(error))
        else:
            if needed not in SECURITY:
                problems.append(
                    f"network {self.network} has the security {needed!r}; give one of {', '.join(SECURITY)}"
                )
            elif SECURITY.index(needed) > level:
                problems.append(f"network {self.network} needs security {needed}, and security is {self.security}")
        return [*problems, *load(self.scheduler).problems(self)]

    @property
    def on_kubernetes(self) -> bool:
        """Whether pods do the work, and not processes of this machine."""
        return self.scheduler in KUBERNETES

    @property
    def floats(self) -> bool:
        """Whether a tag names its image: what that names may change."""
        return self.on_kubernetes and "@sha256:" not in self.image

    @property
    def processes(self) -> int:
        """Processes of a gang on each node."""
        return self.nproc or self.gpus or 1


def _shown(item: str) -> str:
    """An item as an error may repeat it: somebody may have given a secret where its name is asked for."""
    name, _, value = item.partition("=")
    return without_secrets(f"{name}={HIDDEN}" if value and is_secret(name, value) else item)


def _size(quantity: str) -> float:
    """Bytes of a Kubernetes quantity."""
    number = quantity.rstrip("MGTi")
    unit = quantity.removeprefix(number)
    return float(number) * float(1024 if unit.endswith("i") else 1000) ** (" KMGT".index(unit[0]) if unit else 0)
