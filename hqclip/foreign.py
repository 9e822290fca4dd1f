"""Exceptions of libraries in, ours out: what a hub, a server, torch or the operating system refused, and what to do.

Libraries are known by name, so that none of them is imported for it. Whatever is not in these tables is a bug and keeps
its traceback; of what is, `-v` shows it.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from hqclip import log
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
from hqclip.foreign_text import harmless

Rule = tuple[type[HQClipError], str]  # what it is for us, and what to do

MEMORY = "give a smaller batch_size, or a machine with more memory"
LOGIN = "ask for access on its page and set HF_TOKEN"
NOT_THERE = "check the name and the revision"
OFFLINE = (
    "this machine is offline and has no copy: fetch it once where there is a network, with the HF_HOME or "
    "HQCLIP_MODELS that is used here, or choose something that needs no hub"
)
LATER = "try again later"
CLASSES: dict[str, Rule] = {
    "huggingface_hub.errors.GatedRepoError": (AccessError, LOGIN),
    "huggingface_hub.errors.DisabledRepoError": (AccessError, "its owner or the hub has closed it; choose another"),
    "huggingface_hub.errors.LocalTokenNotFoundError": (AccessError, LOGIN),
    "huggingface_hub.errors.RepositoryNotFoundError": (NotFoundError, f"{NOT_THERE}; if it is private, {LOGIN}"),
    "huggingface_hub.errors.RevisionNotFoundError": (NotFoundError, NOT_THERE),
    "huggingface_hub.errors.LocalEntryNotFoundError": (NotFoundError, OFFLINE),
    "huggingface_hub.errors.OfflineModeIsEnabled": (NotFoundError, OFFLINE),
    "huggingface_hub.errors.EntryNotFoundError": (NotFoundError, NOT_THERE),
    "huggingface_hub.errors.HFValidationError": (ConfigError, NOT_THERE),
    "huggingface_hub.errors.StrictDataclassError": (ConfigError, "a config of the model is damaged: fetch it anew"),
    "safetensors.SafetensorError": (DataError, "the file is damaged or cut: write or fetch it again"),
    "safetensors._safetensors_rust.SafetensorError": (DataError, "the file is damaged or cut: write or fetch it again"),
    "torch.distributed.DistError": (UnavailableError, "another rank ended or the network failed; start all again"),
}
HTTP = ("requests", "httpx", "httpx2", "urllib3", "aiohttp", "huggingface_hub", "urllib")  # packages of such exceptions
STATUSES: dict[int, Rule] = {401: (AccessError, LOGIN), 403: (AccessError, LOGIN), 404: (NotFoundError, NOT_THERE)}
ERRNOS: dict[int, Rule] = {
    errno.ENOSPC: (StorageError, "free some space and run again"),
    errno.EDQUOT: (StorageError, "free some space or raise the quota, and run again"),
    errno.EROFS: (StorageError, "choose a folder that can be written to, by TMPDIR or HF_HOME if it is theirs"),
    errno.EIO: (StorageError, "check the disk and run again"),
    errno.ESTALE: (StorageError, "mount the file system anew and run again"),
    errno.EMFILE: (MissingSoftwareError, "raise the limit of open files (ulimit -n)"),
    errno.EACCES: (AccessError, "change its owner or mode"),
    errno.EPERM: (AccessError, "change its owner or mode"),
}
NO_MEMORY = re.compile(
    r"DefaultCPUAllocator|(CUDA|HIP|XPU)( error:)? out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED|std::bad_alloc"
    r"|Cannot allocate memory"
)
# Of CUDA's and HIP's own names for their errors. Others (a device-side assertion, a wrong value) are bugs of a program.
NO_DRIVER = re.compile(
    r"no kernel image is available|driver version is insufficient|NVIDIA driver on your system is too old"
    r"|Found no NVIDIA driver|No (CUDA|HIP) GPUs are available|(CUDA|HIP) driver initialization failed"
    r"|invalid device (ordinal|function)|forward compatibility was attempted"
)
GPU_FAULT = re.compile(
    r"uncorrectable (ECC|NVLink)|GPU is lost|busy or unavailable|unspecified launch failure|illegal memory access"
    r"|hardware (stack )?error|launch timed out|system not yet initialized|(CUDA|HIP)( error:)? unknown error"
    r"|CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR|NOT_INITIALIZED)"
    r"|CUBLAS_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR|NOT_INITIALIZED)"
)
NO_NEIGHBOUR = re.compile(r"gloo/|\[Rank \d+\].*(watchdog|timeout)|NCCL error|ncclInternalError|ncclSystemError", re.I)


@contextmanager
def translated(what: str = "", memory: str = MEMORY) -> Iterator[None]:
    """Raise what libraries raise as one of ours, about `what`; `memory` says what to do where there is too little."""
    try:
        yield
    except HQClipError:
        raise
    except Exception as error:
        rule = _rule(error, memory)
        if rule is None:
            raise
        log.debug("foreign", "".join(traceback.format_exception(error)))
        kind, advice = rule
        raise kind(f"{what + ': ' if what else ''}{_said(error)}; {advice}") from error


@contextmanager
def loading(where: str, failed: str, advice: str) -> Iterator[None]:
    """As `translated`, around the loading of files that somebody brought; `failed` says what did not work.

    What libraries raise of such files is an open set: an entry of another type than they await fails where it is first
    used. Whatever is in no table here is a `ConfigError`.
    """
    try:
        with translated(where):
            yield
    except HQClipError:
        raise
    except Exception as error:
        raise ConfigError(f"{failed}: {type(error).__name__}: {_said(error)}; {advice}") from error


def _rule(error: BaseException | None, memory: str) -> Rule | None:
    """Of the exception, or else of what it was raised from."""
    while error is not None:
        found = _memory(error, memory) or _by_class(error) or _network(error) or _system(error)
        if found:
            return found
        error = error.__cause__
    return None


def _memory(error: BaseException, advice: str) -> Rule | None:
    short = isinstance(error, MemoryError) or "torch.OutOfMemoryError" in _names(error)
    short = short or (isinstance(error, RuntimeError | OSError) and bool(NO_MEMORY.search(str(error))))
    return (MissingSoftwareError, advice) if short else None


def _by_class(error: BaseException) -> Rule | None:
    found = next((CLASSES[name] for name in _names(error) if name in CLASSES), None)
    if found is None and isinstance(error, RuntimeError) and NO_NEIGHBOUR.search(str(error)):
        return CLASSES["torch.distributed.DistError"]
    if isinstance(error, RuntimeError) and NO_DRIVER.search(str(error)):
        return MissingSoftwareError, "choose a GPU that is there, and an image whose CUDA goes with it and its driver"
    if isinstance(error, RuntimeError) and GPU_FAULT.search(str(error)):
        return UnavailableError, "run again on another GPU; if this one does it again, take its node out (dmesg: Xid)"
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] != "hqclip":
        return MissingSoftwareError, "install the extra of hqclip for it, or run it in its image"
    return found


def _network(error: BaseException) -> Rule | None:
    """An answer of a server that is an error, or none."""
    if any(name.partition(".")[0] in HTTP for name in _names(error)):
        told = getattr(error, "response", None)
        status = getattr(told, "status_code", getattr(error, "code", getattr(error, "status", None)))
        return STATUSES.get(status if isinstance(status, int) else 0, (UnavailableError, LATER))
    silent = isinstance(error, ConnectionError | TimeoutError) and not isinstance(error, BrokenPipeError)
    return (UnavailableError, LATER) if silent or "socket.gaierror" in _names(error) else None


def _system(error: BaseException) -> Rule | None:
    return ERRNOS.get(error.errno or 0) if isinstance(error, OSError) else None


def _names(error: BaseException) -> list[str]:
    """Of the class and those it derives from, with their modules."""
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]


def _said(error: BaseException) -> str:
    text = harmless(str(error)).rstrip(".") or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]}..."
