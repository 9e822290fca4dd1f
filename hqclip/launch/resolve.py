"""What a person asks for, checked and made exact: spec, stage and settings in, an `Order` out. Nothing happens yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from hqclip import log
from hqclip.errors import ConfigError
from hqclip.known_secrets import holds_secret
from hqclip.launch.job import GANG, REPLICAS, Job
from hqclip.launch.machines import Machines, read_machines
from hqclip.launch.naming import job_name, spec_digest
from hqclip.launch.patches import Json
from hqclip.launch.platform import read_workers
from hqclip.launch.pod_secrets import secrets_in
from hqclip.launch.pod_security import AGAINST, beyond_restricted, every_container, pods_in
from hqclip.launch.profiles import find_network
from hqclip.launch.registry import LOCAL, load
from hqclip.launch.spec import SECURITY, LaunchSpec
from hqclip.settings import did_you_mean
from hqclip.stages import LAUNCHABLE, STAGES, Shape
from hqclip.store import in_bucket

MARGIN_S = 15  # of the pod's grace, for the agent to write down what happened


@dataclass(frozen=True)
class Order:
    """A job, and how it is to be run and watched."""

    spec: LaunchSpec
    job: Job

    @cached_property
    def body(self) -> Json:
        """The object that a cluster is asked for, rendered once. Raises `ConfigError` if patches leave none."""
        try:
            return dict(load(self.spec.scheduler).render(self.spec, self.job))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"with its patches this is no {self.spec.scheduler} object any more: {error!r}"
            ) from error


def make_order(spec: LaunchSpec, stage: str, given: Mapping[str, Any]) -> Order:
    """Check the settings against the stage and the machines. Raises `ConfigError` with what does not fit."""
    if stage not in STAGES:
        raise ConfigError(f"unknown stage {stage!r}{did_you_mean(stage, STAGES)}; one of {', '.join(STAGES)}")
    shape = STAGES[stage].shape
    _check_for_stage(spec, stage, shape)
    if shape is Shape.REPLICAS and spec.nodes > 1:
        given = {**given, "claims": True}  # so that replicas share the shards
    checked = STAGES[stage].settings.from_mapping(given, f"{stage}.")
    settings = checked.to_mapping()
    settings["store"] = one_spelling(str(settings["store"]))
    gang = shape is Shape.GANG
    processes = spec.processes if gang else 1
    progress = STAGES[stage].progress.format_map(settings)
    if gang:
        checked.check_ranks(spec.nodes * processes)
    job = Job(
        name=job_name(spec, stage, settings),
        digest=spec_digest(spec, stage, settings),
        store=str(settings["store"]),
        stage=stage,
        settings=settings,
        shape=GANG if gang else REPLICAS,
        nodes=spec.nodes,
        nproc=processes,
        progress=progress,
        restarts_in_place=spec.restarts_in_place,
        no_progress_attempts=spec.no_progress_attempts if progress else 0,  # of others no progress is known
        lease_stale_s=spec.lease_stale_s,
        rendezvous_timeout_s=spec.rendezvous_timeout_s,
        shutdown_s=spec.grace_s - MARGIN_S,
        environment_script=str(find_network(spec.network).get("environment_script", "")),
    )
    order = Order(spec, job)
    if spec.on_kubernetes:
        if not in_bucket(job.store) and not _is_shared(job.store, spec):
            raise ConfigError(
                f"store {job.store!r} is a folder: pods of other machines do not see it. Give gs:// or s3://, "
                "or mount a shared volume there with --volumes claim:NAME:/path"
            )
        _check_security(order)  # which renders it, and refuses patches that leave no object
        _check_secrets(order)
    return order


def warn_of_tags(order: Order) -> None:
    """Whoever launches is told of images that may change between attempts, but for those of a network preset."""
    if not order.spec.on_kubernetes:
        return
    preset = _images(_unpatched(order))
    for image in _images(order):
        if "@sha256:" not in image and (image == order.spec.image or image not in preset):
            log.warning("launch", f"image {image} has no digest: what a tag names may change between attempts")


def _images(order: Order) -> list[str]:
    """Those of all containers and volumes of its pods, once each."""

    def images(pod: Json) -> list[str]:
        volumes = [volume.get("image") or {} for volume in pod["spec"].get("volumes") or ()]
        of_containers = [container.get("image", "") for _, container in every_container(pod)]
        return [*of_containers, *(volume.get("reference", "") for volume in volumes)]

    return [image for image in _found(images, order) if image]


def _unpatched(order: Order) -> Order:
    """The same without patches of the user."""
    return Order(dataclasses.replace(order.spec, patches="[]"), order.job)


def _check_secrets(order: Order) -> None:
    """Raises `ConfigError` for secrets that would stand in the object, whoever brings them, without their values."""
    found = _seen(secrets_in, order)
    if not found:
        return
    unpatched = _seen(secrets_in, _unpatched(order))
    others = "store" if holds_secret(order.job.store) else f"network {order.spec.network}"
    raise ConfigError("\n".join(f"{others if told in unpatched else 'patches'}: {told}" for told in found))


def _check_security(order: Order) -> None:
    """Raises `ConfigError` for all that the level of the spec forbids, whoever brings it, each by its place."""
    spec = order.spec
    broken = _found(beyond_restricted if spec.security == "network" else AGAINST[spec.security], order)
    if not broken:
        return
    bare = dataclasses.replace(spec, patches="[]")
    unpatched = _found(beyond_restricted, Order(bare, order.job))
    preset = _found(beyond_restricted, Order(dataclasses.replace(bare, job_annotations=()), order.job))
    forbids = f"security {spec.security} forbids"
    if spec.security == "network":
        broken = [what for what in broken if what not in preset]
        forbids += f", as network {spec.network} does not ask for it"
    needed = SECURITY.index(find_network(spec.network).get("security", SECURITY[0]))
    lax = set(_found(AGAINST["restricted"], order)) - set(_found(AGAINST["baseline"], order))
    problems = []
    for what in broken:
        enough = "baseline" if what in lax and needed <= SECURITY.index("baseline") else "privileged"
        whose = "job_annotations" if what in unpatched else "patches"
        if what in preset:
            whose, enough = f"network {spec.network}", "network"
        problems.append(f"{whose}: {what}, which {forbids}; leave it out, or give --security {enough}")
    if problems:
        raise ConfigError("\n".join(problems))


def _found(against: Callable[[Json], list[str]], order: Order) -> list[str]:
    """What its pods have that is against something, once each. Raises `ConfigError` if patches leave no pods."""
    return _seen(lambda body: list(dict.fromkeys(what for pod in pods_in(body) for what in against(pod))), order)


def _seen(look: Callable[[Json], list[str]], order: Order) -> list[str]:
    """What is seen in its object. Raises `ConfigError` if patches leave no pods."""
    try:
        return look(order.body)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"with its patches these are no pods any more: {error!r}") from error


def _check_for_stage(spec: LaunchSpec, stage: str, shape: Shape) -> None:
    """What a stage cannot do with these machines. Raises `ConfigError`."""
    problems = []
    gang = shape is Shape.GANG
    if not gang and spec.nproc > 1:
        problems.append(f"nproc is {spec.nproc}, but {stage} is no gang: give nodes, one replica each")
    if gang and spec.nodes > 1 and spec.restarts_in_place:
        problems.append("restarts_in_place works for one node: the nodes of a gang would miss each other; give retries")
    if not STAGES[stage].progress and spec.stall_timeout_s:
        problems.append(f"stall_timeout_s looks at checkpoints, and {stage} writes none: leave it to train")
    if shape is Shape.SINGLE and spec.nodes > 1:
        problems.append(f"nodes is {spec.nodes}, but {stage} runs on one")
    if problems:
        raise ConfigError("\n".join(problems))


def one_spelling(store: str) -> str:
    """A folder by its absolute path and a bucket without a last slash: one store has one name."""
    scheme, colon, rest = store.partition("://")
    if colon and scheme != "file":
        return store.rstrip("/")
    return str(Path(rest if colon else store).resolve())


def _is_shared(folder: str, spec: LaunchSpec) -> bool:
    """Whether pods on different machines can write to this folder."""
    for volume in spec.volumes:
        kind, _, path, *mode = volume.split(":")
        if kind in ("claim", "gcs") and mode != ["ro"] and PurePosixPath(folder).is_relative_to(path):
            return True
    return False


def plan_machines(
    uri: str,
    settings: Mapping[str, Mapping[str, Any]],
    launched: Sequence[str] | None = None,
    workers: str = "",
    without: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """The spec of every stage that has a section in a YAML file, checked with what is known of its settings.

    Sections of stages `without` are left out: one file may serve several pipelines.

    What earlier stages will say is not known yet; an empty `uri` is no machines. `launched` are the stages that the
    pipeline was compiled to launch, None where there is no pipeline; `workers` is what its platform says of them.
    Raises `ConfigError` with all problems at once.
    """
    machines = (read_machines(uri) if uri else Machines()).over(read_workers(workers))
    specs, problems = {}, []
    for stage in machines.sections:
        if stage in without:
            log.info("plan", f"{uri}: its section {stage} is left out here")
            continue
        try:
            if stage not in settings:
                why = f"this has no {stage}" if stage in LAUNCHABLE else f"{stage} runs where it is called"
                raise ConfigError(f"{uri}: {why}; leave its section out")
            spec = machines.spec(stage)
            make_order(spec, stage, _filled(stage, settings[stage]))
            specs[stage] = spec.to_mapping()
        except ConfigError as error:
            problems += [f"{stage}: {line}" for line in str(error).splitlines()]
    if launched is not None:
        problems += misplaced(machines, launched, on_a_cluster=find_spec("torchx") is None)
    if problems:
        raise ConfigError("\n".join(problems))
    return specs


def misplaced(machines: Machines, launched: Sequence[str], *, on_a_cluster: bool) -> list[str]:
    """Which sections do not go with the stages that a pipeline was compiled to launch, and which are missed.

    `on_a_cluster`: each task has an image of its own. On one machine all tasks have the same software, so that
    `scheduler: local` does with any stage.
    """
    problems = []
    missing = [stage for stage in launched if stage not in machines.sections]
    if missing:
        problems.append(
            f"{', '.join(missing)}: this pipeline was compiled with --launched for it, so it has no GPU of its own, "
            "and the launch file has no section for it; give plan_launch, or compile without --launched"
        )
    for stage, section in machines.sections.items():
        here = {**machines.common, **section}.get("scheduler", LOCAL) == LOCAL
        if stage not in launched and stage not in LAUNCHABLE and (on_a_cluster or not here):
            problems.append(
                f"{stage}: the launch file has a section for it, but it runs in its task, whose image cannot start "
                "jobs; leave the section out"
            )
        elif stage not in launched and (on_a_cluster or not here):
            every = ",".join([*launched, stage])
            problems.append(
                f"{stage}: the launch file has a section for it, and this pipeline was not compiled to launch it: its "
                f"image cannot start jobs. Compile with --launched {every}, or leave the section out"
            )
        elif stage in launched and here and on_a_cluster:
            problems.append(
                f"{stage}: scheduler local would run it in the task that only waits, whose image does not have what it "
                "needs; give jobset or volcano, or compile without --launched"
            )
    return problems


def _filled(stage: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with a stand-in for what is missing."""
    fields = dataclasses.fields(STAGES[stage].settings)
    return {**{f.name: "later" for f in fields if f.default is dataclasses.MISSING}, **given}
