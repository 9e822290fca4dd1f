"""What libraries raise becomes what a person can act on; a bug stays a bug."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors
import timm
import torch
from huggingface_hub import errors as hub
from safetensors.torch import load

from hqclip import cli, stages
from hqclip.config import TrainConfig
from hqclip.errors import (
    AccessError,
    ConfigError,
    DataError,
    HQClipError,
    MissingSoftwareError,
    NotFoundError,
    StorageError,
    UnavailableError,
)
from hqclip.foreign import translated
from hqclip.ranks import GlooGroup
from hqclip.train.architecture import BATCH_NORM, KNOWN, MODELS, check_models, known_models, list_open_clip
from hqclip.train.model import HQClip


def http(kind: type, status: int = 0) -> Exception:
    """As a client of HTTP raises it."""
    error: Exception = kind.__new__(kind, "no")
    error.args = (f"{status} Client Error",)
    if status:
        error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    return error


def of(package: str, name: str) -> type:
    """An exception of a package that need not be installed here."""
    return type(name, (OSError,), {"__module__": f"{package}.exceptions"})


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (hub.LocalEntryNotFoundError("not in the cache"), NotFoundError, "no copy: fetch it once where there is a net"),
        (hub.OfflineModeIsEnabled("offline"), NotFoundError, "no copy: fetch it once"),
        (http(hub.GatedRepoError, 403), AccessError, "ask for access on its page and set HF_TOKEN"),
        (http(hub.RepositoryNotFoundError, 404), NotFoundError, "check the name and the revision; if it is private"),
        (http(hub.RevisionNotFoundError, 404), NotFoundError, "check the name and the revision"),
        (http(hub.HfHubHTTPError, 503), UnavailableError, "try again later"),
        (http(hub.HfHubHTTPError, 401), AccessError, "HF_TOKEN"),
        (hub.HFValidationError("'a b' is no name"), ConfigError, "check the name"),
        (
            caused(OSError("We couldn't connect"), hub.LocalEntryNotFoundError("x")),
            NotFoundError,
            "couldn't connect; ",
        ),
        (http(of("requests", "ConnectionError")), UnavailableError, "try again later"),
        (http(of("httpx", "ReadTimeout")), UnavailableError, "try again later"),
        (http(of("httpx2", "HTTPStatusError"), 404), NotFoundError, "check the name"),
        (http(of("httpx2", "HTTPStatusError"), 403), AccessError, "HF_TOKEN"),
        (http(of("httpx2", "HTTPStatusError"), 500), UnavailableError, "try again later"),
        (urllib.error.HTTPError("u", 404, "gone", Message(), None), NotFoundError, "gone; check the name"),
        (urllib.error.URLError("no route"), UnavailableError, "try again later"),
        (ConnectionResetError("reset"), UnavailableError, "try again later"),
        (TimeoutError(), UnavailableError, "TimeoutError; try again later"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), MissingSoftwareError, "a smaller batch_size"),
        (RuntimeError("CUDA error: out of memory"), MissingSoftwareError, "a smaller batch_size"),
        (RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED"), MissingSoftwareError, "a smaller batch_size"),
        (MemoryError(), MissingSoftwareError, "MemoryError; give a smaller batch_size"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MissingSoftwareError, "a smaller batch_size"),
        (torch.distributed.DistBackendError("NCCL error"), UnavailableError, "another rank ended"),
        (
            RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer"),
            UnavailableError,
            "another ran",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), StorageError, "'/tmp/x'; free some space and run"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageError, "raise the quota"),
        (OSError(errno.EROFS, "Read-only file system", "/home"), StorageError, "can be written to"),
        (PermissionError(errno.EACCES, "Permission denied", "/root"), AccessError, "'/root'; change its owner"),
        (
            ModuleNotFoundError("No module named 'tiktoken'", name="tiktoken"),
            MissingSoftwareError,
            "install the ext",
        ),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, Exception) else None,
)
def test_what_can_be_mended_says_what_it_is_and_what_to_do(error: Exception, kind: type[HQClipError], said: str):
    with pytest.raises(kind) as raised, translated("the work"):
        raise error
    assert str(raised.value).startswith("the work: ")
    assert said in str(raised.value)
    assert raised.value.__cause__ is error


def test_memory_that_is_not_there_is_told_by_torch_and_numpy_themselves():
    for ask in (lambda: torch.empty(10**15), lambda: np.empty(10**15)):
        with pytest.raises(MissingSoftwareError, match="half the batch"), translated(memory="half the batch"):
            ask()


def test_weights_that_are_cut_are_told_by_safetensors_itself():
    with pytest.raises(DataError, match="the file is damaged or cut"), translated():
        load(b"\xff" * 20)
    assert safetensors.SafetensorError is not None


@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("CUDA error: uncorrectable ECC error encountered", 69),
        ("CUDA error: an illegal memory access was encountered", 69),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", 69),
        ("CUDA error: unspecified launch failure", 69),
        ("CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error", 69),
        ("CUDA error: unknown error", 69),
        ("CUDA unknown error - this may be due to an incorrectly set up environment", 69),
        ("HIP error: unspecified launch failure", 69),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", 69),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", 69),
        ("Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.", 69),
        ("CUDA error: no kernel image is available for execution on the device", 78),
        ("CUDA error: invalid device ordinal", 78),
        ("HIP error: invalid device function", 78),
        ("The NVIDIA driver on your system is too old (found version 11040).", 78),
        ("CUDA driver initialization failed, you might not have a CUDA gpu.", 78),
        ("No CUDA GPUs are available", 78),
    ],
)
def test_a_gpu_with_a_fault_is_told_from_one_that_was_never_fit(kind: type[RuntimeError], said: str, code: int):
    error = kind.__new__(kind)
    error.args = (said,)
    with pytest.raises(HQClipError, match="GPU") as raised, translated("the work"):
        raise error
    assert (raised.value.exit_code, said.rstrip(".") in str(raised.value)) == (code, True)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"),
        ValueError("an uncorrectable ECC error is no error of ours"),
        RuntimeError("shapes do not match"),
        FileNotFoundError(errno.ENOENT, "No such file"),
        ImportError("cannot import name 'x'", name="hqclip.store"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        KeyError("while a server was silent"),
    ],
)
def test_a_bug_keeps_its_traceback(error: Exception):
    error.__context__ = ConnectionResetError()  # what was handled when it came is not its cause
    with pytest.raises(type(error)) as raised, translated():
        raise error
    assert raised.value is error


def test_what_is_ours_already_is_left_alone():
    ours = DataError("shards/00000.tar: cut")
    with pytest.raises(DataError) as raised, translated("the work"):
        raise ours
    assert raised.value is ours


def test_a_stage_and_a_command_end_with_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Full:
        @staticmethod
        def run(settings: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    monkeypatch.setattr(stages.importlib, "import_module", lambda name: Full)
    assert cli.main(["train", "--store", "s", "--dataset", "d", "--run", "r"]) == 74
    assert "hqclip train: [Errno 28] No space left on device: '/tmp/x'; free some space" in capsys.readouterr().err


def test_ranks_hear_of_each_others_foreign_faults():
    def fail() -> None:
        raise MemoryError

    with pytest.raises(MissingSoftwareError, match="a smaller batch_size"):
        GlooGroup(1).on_all_ranks(fail)


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "roberta-ViT-B-32"])
def test_a_model_whose_tokenizer_is_on_a_hub_is_refused_offline_with_what_to_do(name: str):
    with pytest.raises(NotFoundError, match=rf"model {name}: .*no copy: fetch it once where there is a network"):
        HQClip(name, [0.5])


def test_before_a_gpu_is_taken_the_tokenizer_is_asked_for(capsys: pytest.CaptureFixture[str]):
    train = {"model": "ViT-B-32"}
    trials = [{"settings": {}}, {"settings": {"model": "roberta-ViT-B-32"}}]
    check_models(train, trials[:1], here=True)
    with pytest.raises(NotFoundError, match="model roberta-ViT-B-32 needs roberta-base of a hub: .*no copy: fetch it"):
        check_models(train, trials, here=True)
    check_models(train, trials, here=False)  # other machines may have it
    assert "model roberta-ViT-B-32 needs roberta-base of a hub: the machines of train must" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="unknown model 'ViT-B-23'; did you mean 'ViT-B-32'"):
        check_models({"model": "ViT-B-23"}, trials, here=False)
    check_models({"model": "ViT-B-23"}, [], here=True)  # nothing is trained


@pytest.mark.slow
def test_the_models_that_normalise_over_the_batch_are_those_that_are_called_so():
    def normalises(tower: dict[str, Any]) -> bool:
        name = tower.get("timm_model_name")
        if name is None:
            return isinstance(tower.get("layers"), list)  # open_clip's ModifiedResNet, else a transformer
        with torch.device("meta"):
            parts = timm.create_model(name).modules()
        return any(isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for part in parts)

    folders = [Path(open_clip.__file__).parent / "model_configs", MODELS]
    configs = {path.stem: json.loads(path.read_text()) for folder in folders for path in folder.glob("*.json")}
    assert set(configs) == set(known_models())
    found = {name for name, config in configs.items() if normalises(config["vision_cfg"])}
    assert found == {name for name in configs if name.startswith(BATCH_NORM)}


def test_models_are_known_where_open_clip_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    installed = known_models()
    assert KNOWN.read_text() == list_open_clip(), "write it anew: python -m hqclip.train.architecture"
    monkeypatch.setattr("hqclip.train.architecture.find_spec", lambda name: None)
    assert known_models() == installed
    with pytest.raises(ConfigError, match="unknown model 'ViT-B-23'; did you mean 'ViT-B-32'"):
        check_models({"model": "ViT-B-23"}, [{"settings": {}}], here=True)
    check_models({"model": "roberta-ViT-B-32"}, [{"settings": {}}], here=True)
    assert "needs roberta-base of a hub: the machines of train must" in capsys.readouterr().err


def test_models_are_known_and_faults_translated_without_heavy_packages():
    code = (
        "import sys; from hqclip.train.architecture import check_models; import hqclip.foreign; "
        "check_models({'model': 'ViT-B-32'}, [{'settings': {}}], here=True); "
        "print({'torch', 'open_clip', 'transformers', 'huggingface_hub', 'httpx'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_configs_are_found_for_the_names_that_open_clip_lists():
    import open_clip

    config = TrainConfig(store="s", dataset="d", run="r").to_mapping()
    for name in open_clip.list_models():
        check_models({**config, "model": name}, [{"settings": {}}], here=False)
    assert Path(open_clip.__file__).is_file()
