"""What a shell has given to the tests is taken away: its clusters, buckets, accounts, proxies and habits.

An allow-list, since nobody knows all variables that change what a library does. The home folder is empty, too: in it
are kube configs, cloud credentials and caches of hubs.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import tempfile
import threading
import time

ALLOWED = re.compile(
    r"PATH|PYTHON\w*|VIRTUAL_ENV|LD_\w+|TMPDIR|USER|LOGNAME|SHELL|CI|PYTEST_\w+|COVERAGE_\w+"  # to run at all
    r"|O(MP|PENBLAS)_\w+|MKL_\w+|CUDA_\w+|NVIDIA_\w+|VLLM_\w+|HF_HUB_OFFLINE"  # for this processor or accelerator
)
FIXED = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "OMP_NUM_THREADS": "1",  # several workers on few cores: teams of threads would only wait for each other
    "HF_HUB_OFFLINE": "1",
    "HQCLIP_CONFIG": "none",  # whatever hqclip.yaml is above the tests
    "KUBECONFIG": os.devnull,  # an empty one is no cluster; without any, clients look for a pod's
}
GIVEN = dict(os.environ)  # what the shell has given, for the one suite that wants the world: tests/cluster


def be_alone() -> None:
    """Nothing of this shell is left, for this process and those it starts, and Ctrl-C interrupts as it should."""
    home = tempfile.mkdtemp(prefix="hqclip-tests-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in set(os.environ):
        if not ALLOWED.fullmatch(name):
            del os.environ[name]
    os.environ.update(FIXED, HOME=home)
    time.tzset()
    if threading.current_thread() is threading.main_thread():  # a worker's tests may run in another one
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
