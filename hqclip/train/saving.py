"""Checkpoints on their way to the store while training goes on: a store that is away costs no step, until the last."""

from __future__ import annotations

import threading

import torch
from torch import nn

from hqclip import log
from hqclip.errors import HQClipError, StorageError, UnavailableError
from hqclip.store import Store
from hqclip.train.checkpoint import snapshot, write_checkpoint
from hqclip.train.metrics import MetricsLog

PATIENCE_S = 10.0  # to wait for the checkpoint before, so that a short delay leaves none out
PASSING = (UnavailableError, StorageError)  # what may be over by the next checkpoint


class Saving:
    """Curves and states of one run, for rank 0. At most one state is under way: one copy of it is in memory."""

    def __init__(
        self,
        store: Store,
        run: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        metrics: MetricsLog,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._store, self._run = store, run
        self._model, self._optimizer, self._metrics = model, optimizer, metrics
        self._patience_s = patience_s
        self._thread: threading.Thread | None = None
        self._fault: Exception | None = None
        self._saved = 0  # the step of the newest checkpoint in the store

    def resume(self, step: int) -> None:
        """The newest checkpoint is that of `step`."""
        self._saved = step

    def begin(self, step: int) -> None:
        """Take the state after `step` steps and bring it to the store in the background.

        Left out if the one before is still on its way. Raises what made that one fail, unless it may pass.
        """
        if not self.settled(self._patience_s):
            self._metrics.unsaved_since = self._saved
            log.warning("train", f"{self._run}: no checkpoint of step {step}: an earlier one is still on its way")
            return
        fault, self._fault = self._fault, None
        if fault and not isinstance(fault, PASSING):
            raise fault
        contents = snapshot(step, self._model, self._optimizer)
        self._thread = threading.Thread(target=self._try, args=(step, contents), name="checkpoint", daemon=True)
        self._thread.start()

    def finish(self, step: int) -> None:
        """Bring the state after `step` steps to the store now, after what is under way. Raises what goes wrong."""
        self.settled()
        self._fault = None
        self._bring(step, snapshot(step, self._model, self._optimizer))

    def settled(self, patience_s: float | None = None) -> bool:
        """Whether nothing is under way, or no longer after so many seconds; None waits as long as it takes."""
        if self._thread:
            self._thread.join(patience_s)
        return self._thread is None or not self._thread.is_alive()

    def _try(self, step: int, contents: dict[str, bytes]) -> None:
        try:
            self._bring(step, contents)
        except Exception as error:  # for the thread that trains, which raises it if it will not pass
            self._fault = error
            self._metrics.unsaved_since = self._saved
            if isinstance(error, HQClipError):
                log.warning(
                    "train", f"{self._run}: no checkpoint of step {step}, the newest is of {self._saved}: {error}"
                )

    def _bring(self, step: int, contents: dict[str, bytes]) -> None:
        self._metrics.upload()
        write_checkpoint(self._store, self._run, step, contents)
        self._saved = step
        self._metrics.unsaved_since = None
