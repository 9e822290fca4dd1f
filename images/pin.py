"""The digests of pushed images into `images/lock.json`: `python images/pin.py REGISTRY TAG ROLE...`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent / "lock.json"


def digest(registry: str, tag: str, role: str) -> str:
    """What the registry calls this image. Raises `SystemExit` for one that was not pushed there."""
    image = f"{registry}/{role}:{tag}"
    found = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image], capture_output=True, text=True
    )
    if found.returncode:
        raise SystemExit(f"pin.py: {image} is not here ({found.stderr.strip()}); build or pull it")
    for reference in json.loads(found.stdout):
        name, _, known = reference.partition("@")
        if name == f"{registry}/{role}":
            return str(known)
    raise SystemExit(f"pin.py: {image} has no digest, because it was not pushed: docker push {image}")


def main(registry: str, tag: str, *roles: str) -> None:
    """Write the lock anew, with these roles and no others."""
    digests = {role: digest(registry, tag, role) for role in sorted(roles)}
    LOCK.write_text(json.dumps({"registry": registry, "tag": tag, "digests": digests}, indent=2) + "\n")
    print(LOCK)


if __name__ == "__main__":
    main(*sys.argv[1:])
