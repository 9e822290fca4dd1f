"""Settings of `hqclip launch` and `hqclip jobs`."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.launch.spec import LaunchSpec
from hqclip.settings import Settings, setting

CLUSTER = "Kubernetes namespace; empty is that of this pod, or of the kubeconfig"


@dataclass(frozen=True, kw_only=True)
class LaunchRunConfig(LaunchSpec):
    """Run a stage on many machines, and wait for its result; the flags of the stage follow its name."""

    spec: str = setting("YAML file with settings of this list, and a section for each stage; flags win over it", "")
    platform: str = setting("platform file, as for `python -m pipelines compile`; all others win over it", "")


@dataclass(frozen=True, kw_only=True)
class LaunchRenderConfig(LaunchRunConfig):
    """Print the object that `launch run` would create."""


@dataclass(frozen=True, kw_only=True)
class JobsListConfig(Settings):
    """List the jobs of hqclip in a namespace: what they are, how they are, why they wait."""

    namespace: str = setting(CLUSTER, "")


@dataclass(frozen=True, kw_only=True)
class JobsLogsConfig(Settings):
    """Print what the newest pod of a job has said so far."""

    job: str = setting("name of the job")
    node: int = setting("number of the node or replica", 0, minimum=0)
    namespace: str = setting(CLUSTER, "")


@dataclass(frozen=True, kw_only=True)
class JobsCancelConfig(Settings):
    """Delete jobs and their pods: one by its name, or all of a launch id such as a Kubeflow run."""

    job: str = setting("name of the job", "")
    of: str = setting("launch id whose jobs are cancelled", "")
    namespace: str = setting(CLUSTER, "")

    def conflicts(self) -> list[str]:
        """Neither or both."""
        return [] if bool(self.job) != bool(self.of) else ["give one of job and of"]


@dataclass(frozen=True, kw_only=True)
class JobsGcConfig(Settings):
    """Delete jobs that nobody wants any more: their workflow is gone or has ended, or their lease is long stale."""

    namespace: str = setting(CLUSTER, "")
    dry_run: bool = setting("only say what would be deleted", False)


@dataclass(frozen=True, kw_only=True)
class ProfilesConfig(Settings):
    """List the hardware profiles and network presets that a launch can name."""
