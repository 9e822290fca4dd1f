"""The tests do not see what the shell has that starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.alone import ALLOWED, FIXED

ROOT = Path(__file__).parents[1]
HOSTILE = {
    "KUBECONFIG": "/home/me/.kube/config",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "STORAGE_EMULATOR_HOST": "http://elsewhere:9000",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/me/key.json",
    "AWS_PROFILE": "work",
    "HF_TOKEN": "hf_secret",
    "HTTPS_PROXY": "http://proxy:3128",
    "HQCLIP_KFP_HOST": "http://kubeflow",
    "HQCLIP_TAG": "mine",
    "HQCLIP_STORE": "gs://production",
    "HQCLIP_CONFIG": "/home/me/hqclip.yaml",
    "COLUMNS": "40",
    "FORCE_COLOR": "1",
    "LANG": "tr_TR.UTF-8",
    "TZ": "Asia/Kolkata",
    "RANK": "3",
}
SEEN = "tests/test_alone.py::test_this_process_is_alone"
NAMES = "import os; from tests.alone import be_alone; be_alone(); print(*os.environ)"


def test_this_process_is_alone():
    assert not {name for name in HOSTILE if os.environ.get(name) == HOSTILE[name]}
    assert Path(os.environ["HOME"]).name.startswith("hqclip-tests-home-")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_of_the_shell_is_left():
    environment = {**os.environ, **HOSTILE}
    said = subprocess.run([sys.executable, "-c", NAMES], env=environment, cwd=ROOT, capture_output=True, check=True)
    left = {name for name in said.stdout.decode().split() if not ALLOWED.fullmatch(name)}
    assert left == {name for name in ("HOME", *FIXED) if not ALLOWED.fullmatch(name)}


def test_a_shell_full_of_settings_and_without_ctrl_c_changes_nothing():
    shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]  # as background jobs of a script are started
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", SEEN]
    done = subprocess.run([*shell, *run], env={**os.environ, **HOSTILE}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
