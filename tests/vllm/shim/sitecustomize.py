"""Lets a torchvision that was built for GPUs be imported beside a torch that was not; for the tests with vLLM on a CPU.

Its import declares shapes for two operators of its compiled part, which then is absent. This tells torch of them just
before. Found through PYTHONPATH, so the engine's child processes get it too.
"""

import importlib.abc
import sys

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing itself; it only notices the first import of torchvision."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            keep.append(self.library)
            for operator in OPERATORS:
                self.library.define(operator)


keep: list[object] = []  # a library that is collected takes its operators along
sys.meta_path.insert(0, BeforeTorchvision())
