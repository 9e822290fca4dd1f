"""What a killed process leaves behind: nothing, if it had a watcher."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

PARENT = """
import subprocess, sys, time
import psutil
from hqclip.annotate.process_reaper import ProcessReaper
early = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
watcher = ProcessReaper()
late = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
looked = psutil.Process(watcher._process.pid).num_ctx_switches  # it sleeps between two looks
before = looked().voluntary
while looked().voluntary < before + 3:
    time.sleep(0.05)
print(early.pid, late.pid, flush=True)
if sys.argv[1] == "finish":
    watcher.finish()
    print("finished", flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def start(end: str) -> tuple[subprocess.Popen[str], int, int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, end], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    early, late = map(int, parent.stdout.readline().split())
    return parent, early, late


def test_what_a_killed_process_had_started_dies_with_it():
    parent, early, late = start("killed")
    parent.kill()
    parent.wait()
    end = time.monotonic() + 120
    while is_running(late) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(late)
    assert is_running(early), "what was there before the watcher is none of its business"
    psutil.Process(early).kill()


def test_a_watcher_that_is_told_to_finish_leaves_what_is_not_of_the_engine():
    parent, early, late = start("finish")
    assert parent.stdout is not None
    assert parent.stdout.readline() == "finished\n"
    assert is_running(late)
    parent.kill()
    for pid in (early, late):
        psutil.Process(pid).kill()
