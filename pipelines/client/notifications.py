"""What the doctor says of messages to people: whether the environment here names receivers, and whether they answer.

Tasks have the environment that the platform file gives them, which is seen in the cluster alone.
"""

from __future__ import annotations

import os

from hqclip.notify.config import PREFIX, read_environment
from hqclip.notify.outbox import send_test
from pipelines.client.finding import OK, Finding


def is_wanted() -> bool:
    """Whether somebody has set anything of it."""
    return any(name.startswith(PREFIX) and value.strip() for name, value in os.environ.items())


def check(is_tried: bool) -> Finding:
    """Is it said well who is told, and, if it is to be tried, does a message arrive?"""
    if is_tried:
        return Finding(OK, f"a test message was taken by {', '.join(send_test()['told'])}")
    names = ", ".join(read_environment().names)
    return Finding(OK, f"{names} would be told; --notify sends a test" if names else "nobody is told")
