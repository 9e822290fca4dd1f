"""What a user can act on. Every message says what was found, where, and what to do next.

Anything that is not an `HQClipError` is a bug in hqclip and keeps its traceback (exit code 1).
"""

from hqclip.foreign_text import without_keys


class HQClipError(Exception):
    """A fault that a person can mend; `exit_code` tells a scheduler whether to try again.

    Its words go to logs, records and pages that people share, and often hold those of a server, which may repeat the
    key that it was given.
    """

    exit_code = 1

    def __str__(self) -> str:
        return without_keys(super().__str__())


class ConfigError(HQClipError):
    """A flag, setting or parameter is wrong. Trying again does not help."""

    exit_code = 64


class DataError(HQClipError):
    """The data is damaged, empty or too often bad. Trying again does not help."""

    exit_code = 65


class NotFoundError(HQClipError):
    """A named input does not exist."""

    exit_code = 66


class UnavailableError(HQClipError):
    """A service did not answer after all retries."""

    exit_code = 69


class TimeLimitError(UnavailableError):
    """A time that somebody gave for it is over: another try would take as long again."""


class CrashLoopError(HQClipError):
    """The same work failed again without getting further. Trying again does not help."""

    exit_code = 70


class ConflictError(HQClipError):
    """The place is taken by something else: nothing is ever overwritten."""

    exit_code = 73


class StorageError(HQClipError):
    """Reading or writing failed: disk full, checksum mismatch, I/O error."""

    exit_code = 74


class StoppedError(HQClipError):
    """Stopped on purpose: what was finished is kept, and the same command continues."""

    exit_code = 75


class BudgetError(HQClipError):
    """The budget of a cycle or sweep is used up, or what is planned exceeds it. A larger one continues."""

    exit_code = 76


class AccessError(HQClipError):
    """Missing credentials or permission."""

    exit_code = 77


class MissingSoftwareError(HQClipError):
    """This machine or image lacks something: a package, a GPU, a program."""

    exit_code = 78


class TrialsFailedError(HQClipError):
    """Some trials of a cycle or sweep failed, and the others are compared: the exit code of the first that failed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class TerminatedError(HQClipError):
    """SIGTERM was received: what was finished is kept, and the same command continues."""

    exit_code = 143


_KINDS = (
    ConfigError,
    DataError,
    NotFoundError,
    UnavailableError,
    CrashLoopError,
    ConflictError,
    StorageError,
    StoppedError,
    BudgetError,
    AccessError,
    MissingSoftwareError,
)
EXIT_CODES = {
    0: "Done, or nothing to do.",
    1: "A bug in hqclip: please report the traceback.",
    **{kind.exit_code: (kind.__doc__ or "").strip() for kind in _KINDS},
    130: "Interrupted from the keyboard; the same command continues.",
    137: "A process was killed: mostly for its memory, else from outside.",
    TerminatedError.exit_code: (TerminatedError.__doc__ or "").strip(),
}
