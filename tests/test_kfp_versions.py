"""`upload` and `list`: a pipeline's versions are its contents, each there once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqclip import __version__
from hqclip.errors import ConfigError, DataError, NotFoundError, UnavailableError
from pipelines.client import listing, versions
from pipelines.client.versions import find_version, read_package
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import NAME, call, connected, look_at_once, write_package

Read = pytest.CaptureFixture[str]


def upload(capsys: Read, *words: object) -> dict[str, Any]:
    """What an upload shows."""
    capsys.readouterr()
    assert call(versions, *words, "-o", "json") == 0
    return dict(json.loads(capsys.readouterr().out))


def test_the_same_content_is_uploaded_once(kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read) -> None:
    path = write_package(tmp_path)
    first, second = upload(capsys, path), upload(capsys, path)
    assert (first["new"], second["new"]) == (True, False)
    assert first["version"] == second["version"] == f"{__version__}-{read_package(str(path)).digest[:8]}"
    assert first["version_id"] == second["version_id"]
    assert [version["name"] for version in kubeflow.versions.values()] == [first["version"]]  # the first is named, too
    assert len(kubeflow.asked("POST", "/upload_version")) == 1


def test_content_that_was_taken_back_is_not_the_latest_again(
    kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read
) -> None:
    first = upload(capsys, write_package(tmp_path))
    second = upload(capsys, write_package(tmp_path, image="x@sha256:1"))
    assert call(versions, write_package(tmp_path)) == 0
    said = capsys.readouterr().err
    assert f"nothing to upload: version {first['version']}" in said
    assert f"but `latest` is {second['version']}, which is newer" in said
    assert f"run {NAME} --version {first['version']}" in said


def test_other_content_is_another_version_of_the_same_pipeline(
    kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read
) -> None:
    first = upload(capsys, write_package(tmp_path))
    second = upload(capsys, write_package(tmp_path, image="registry.example/hqclip/base@sha256:4567"))
    assert first["pipeline_id"] == second["pipeline_id"]
    assert first["version"] != second["version"]
    assert len(kubeflow.versions) == 2


def test_content_is_known_again_whatever_release_uploaded_it(
    kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read
) -> None:
    path = write_package(tmp_path)
    first = upload(capsys, path)
    kubeflow.versions[first["version_id"]] |= {"name": "0.0.1-" + first["version"][-8:]}
    kubeflow.versions[first["version_id"]] |= {"display_name": "0.0.1-" + first["version"][-8:]}
    assert upload(capsys, path)["version"] == "0.0.1-" + first["version"][-8:]


def test_a_person_reads_the_version_its_page_and_what_is_next(
    kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read
) -> None:
    path = write_package(tmp_path)
    assert call(versions, path, "--ui", "https://kubeflow.example") == 0
    shown = capsys.readouterr()
    (version,) = kubeflow.versions.values()
    assert f"https://kubeflow.example/#/pipelines/details/{version['pipeline_id']}/version/" in shown.out
    assert f"uploaded {NAME} as version {version['name']}" in shown.err
    assert f"python -m pipelines list {NAME} --ui https://kubeflow.example\n" in shown.err
    assert "warning" not in shown.err
    assert call(versions, path) == 0
    said = capsys.readouterr().err
    assert "nothing to upload" in said
    assert "`latest`" not in said


def test_what_it_is_made_of_is_written_beside_it(kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read) -> None:
    path = write_package(tmp_path)
    upload(capsys, path, "--tag", "team=vision")
    (version,) = kubeflow.versions.values()
    digest = read_package(str(path)).digest
    assert version["tags"] == {"hqclip": __version__, "content": digest[:16], "channel": "dev", "team": "vision"}
    assert digest in version["description"]
    assert version["pipeline_spec"] == yaml.safe_load(path.read_text())


def test_tags_that_kubeflow_would_refuse_are_refused_here(kubeflow: FakeKubeflow, tmp_path: Path) -> None:
    for tag in ("team", "=x", f"team={'x' * 64}"):
        with pytest.raises(ConfigError, match="give KEY=VALUE, each of at most 63"):
            call(versions, write_package(tmp_path), "--tag", tag)
    for tag in ("channel=stable", "example.org=x"):
        with pytest.raises(ConfigError, match="give another key, without a dot; hqclip, content, channel are taken"):
            call(versions, write_package(tmp_path), "--tag", tag)
    with pytest.raises(ConfigError, match="18 --tag: give at most 17"):
        call(versions, write_package(tmp_path), *(word for n in range(18) for word in ("--tag", f"t{n}=x")))
    assert not kubeflow.requests


def test_images_that_may_change_are_warned_of(kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read) -> None:
    assert call(versions, write_package(tmp_path, image="hqclip/base:latest"), "--allow-tags") == 0
    assert "images without a digest may change under this version: hqclip/base:latest" in capsys.readouterr().err


def test_our_own_pipelines_are_compiled_and_uploaded(kubeflow: FakeKubeflow, capsys: Read) -> None:
    shown = upload(capsys, "refine", "--launched", "annotate,train", "--allow-tags")
    assert shown["pipeline"] == "hqclip-refine"
    assert upload(capsys, "refine", "--launched", "annotate,train", "--allow-tags")["new"] is False
    assert upload(capsys, "refine", "--allow-tags")["new"] is True


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["refin"], ConfigError, "unknown pipeline 'refin'; did you mean 'refine'"),
        (["nothing.yaml"], NotFoundError, "nothing.yaml: there is no such file"),
        (["list.yaml"], DataError, "not a compiled pipeline"),
        (["list.yaml", "--launched", "train"], ConfigError, "compiled already"),
        (["refine", "--launched", "trian"], ConfigError, "did you mean 'train'"),
    ],
)
def test_what_cannot_be_uploaded_is_refused_before_anything_is_sent(
    kubeflow: FakeKubeflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    kind: type[Exception],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("- milk\n")
    with pytest.raises(kind, match=said):
        call(versions, *words)
    assert not kubeflow.requests


def test_an_upload_whose_answer_got_lost_is_found(kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read) -> None:
    kubeflow.commit_then_drop("POST", "/pipelines$")
    kubeflow.commit_then_drop("POST", "/upload_version")
    shown = upload(capsys, write_package(tmp_path))
    assert list(kubeflow.versions) == [shown["version_id"]]
    kubeflow.assert_all_faults_fired()


def test_an_upload_that_somebody_else_made_meanwhile_is_joined(
    kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read
) -> None:
    path = write_package(tmp_path)
    package = read_package(str(path))
    name, spec = package.version, dict(package.spec)
    kubeflow.then(
        "GET", "/versions", lambda: kubeflow.new_version(next(iter(kubeflow.pipelines)), {"name": name}, spec)
    )
    shown = upload(capsys, path)
    assert shown["new"] is False
    assert list(kubeflow.versions) == [shown["version_id"]]


def test_a_server_in_trouble_ends_the_upload_with_its_words(kubeflow: FakeKubeflow, tmp_path: Path) -> None:
    kubeflow.fail("POST", "/upload_version", 500, times=3, message="InternalServerError: no space in the object store")
    with pytest.raises(UnavailableError, match="no space in the object store"):
        call(versions, write_package(tmp_path), "--patience-s", 0.3)
    kubeflow.assert_all_faults_fired()


def test_several_users_upload_to_their_own_namespace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Read
) -> None:
    look_at_once(monkeypatch)
    with FakeKubeflow(multi_user=True, namespaces=("team", "other")) as kubeflow:
        words = [write_package(tmp_path), "--host", kubeflow.url, "--namespace"]
        assert upload(capsys, *words, "team")["new"]
        assert upload(capsys, *words, "other")["new"]
        assert upload(capsys, *words, "team")["new"] is False
        assert sorted(pipeline["namespace"] for pipeline in kubeflow.pipelines.values()) == ["other", "team"]


# list


def test_pipelines_and_versions_are_listed_the_newest_first(
    kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read
) -> None:
    names = [upload(capsys, write_package(tmp_path, image=f"x@sha256:{n}"))["version"] for n in range(3)]
    assert call(listing, "-o", "json") == 0
    (pipeline,) = json.loads(capsys.readouterr().out)
    assert (pipeline["pipeline"], pipeline["description"]) == (NAME, "A small one.")
    assert call(listing, NAME, "-o", "yaml") == 0
    assert [row["version"] for row in yaml.safe_load(capsys.readouterr().out)] == names[::-1]
    assert call(listing, NAME) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["VERSION", "CHANNEL", "LINE", "CREATED", "TAGS", "DESCRIPTION"]
    assert "content=" not in first, "columns say it"
    assert first.startswith(names[2])


def test_many_versions_are_all_listed(kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read) -> None:
    pipeline = upload(capsys, write_package(tmp_path))["pipeline_id"]
    for number in range(230):
        kubeflow.new_version(pipeline, {"name": f"v{number}"}, {})
    assert call(listing, NAME, "-o", "json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 231


def test_a_pipeline_that_is_not_there_is_said(kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read) -> None:
    assert call(listing) == 0
    assert capsys.readouterr().err == "nothing there\n"
    with pytest.raises(NotFoundError, match="no pipeline 'hqclip-refine'"):
        call(listing, "refine")
    upload(capsys, write_package(tmp_path))
    with pytest.raises(NotFoundError, match="did you mean 'hqclip-refine'"):
        call(listing, "hqclip-refin")


def test_versions_are_found_by_name_by_id_or_as_the_latest(
    kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read
) -> None:
    old = upload(capsys, write_package(tmp_path))
    new = upload(capsys, write_package(tmp_path, image="x@sha256:1"))
    there = connected(kubeflow)
    assert find_version(there, NAME).pipeline_version_id == new["version_id"]
    assert find_version(there, NAME, "latest").pipeline_version_id == new["version_id"]
    assert find_version(there, NAME, old["version"]).pipeline_version_id == old["version_id"]
    assert find_version(there, NAME, old["version_id"]).display_name == old["version"]
    with pytest.raises(NotFoundError, match=f"the newest is {new['version']}"):
        find_version(there, NAME, "nothing")
