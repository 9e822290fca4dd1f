"""A shell script in, its variables taken over by this process: how NCCL's plugins are switched on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hqclip.errors import MissingSoftwareError

SOURCE = 'set -a; . "$1" >&2 || exit; env -0'
OF_THE_SHELL = ("_", "SHLVL", "PWD", "OLDPWD")
TAIL = 1000  # of what it said, in characters


def take_over(script: str) -> None:
    """Source `script` and make this process's environment the one it leaves. Raises `MissingSoftwareError`."""
    command = ["bash", "-c", SOURCE, "bash", str(Path(script).absolute())]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise MissingSoftwareError(f"environment_script {script} needs bash: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-TAIL:]
        raise MissingSoftwareError(f"environment_script {script} ended with exit code {done.returncode}: {said}")
    pairs = (os.fsdecode(line).partition("=") for line in done.stdout.split(b"\0") if line)
    after = {name: value for name, _, value in pairs if name not in OF_THE_SHELL}
    for name in os.environ.keys() - after.keys() - set(OF_THE_SHELL):
        del os.environ[name]
    os.environ.update(after)
