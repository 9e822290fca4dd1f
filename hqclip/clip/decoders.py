"""Pictures that are not read yet in, pictures as a tower wants them out: in order, and ahead of who takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from hqclip.data.images import Pixels

Picture = Pixels | Callable[[], Pixels]  # (height, width, 3) uint8, or what reads and decodes it


def prepared(
    pictures: Iterable[Picture], prepare: Callable[[Pixels], Tensor], threads: int, ahead: int
) -> Generator[Tensor, None, None]:
    """`prepare` of every picture, made by a pool of threads while the caller is busy with the ones before.

    Of pictures that are read here never more than `threads` are there at their full size, and never more than `ahead`
    prepared ones, so memory is bounded. Of several faults the first in order is raised.
    """
    torch.get_num_threads()  # torch takes its choice for this thread now, and not the 1 of the decoders
    # each decoder with one thread of torch, not with a team of its own that fights those of the others
    pool = ThreadPoolExecutor(threads, "decode", torch.set_num_threads, (1,))
    waiting: deque[Future[Tensor]] = deque()
    try:
        for picture in pictures:
            waiting.append(pool.submit(_prepared, picture, prepare))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepared(picture: Picture, prepare: Callable[[Pixels], Tensor]) -> Tensor:
    return prepare(picture() if callable(picture) else picture)
