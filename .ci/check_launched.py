"""What a launched training must have left behind: `python .ci/check_launched.py OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hqclip.records import CycleRecord
from hqclip.store import open_store

store = open_store(str(Path(sys.argv[1]) / "store"))
record = CycleRecord.from_json(store.read("cycles/000003.json"), "cycles/000003.json")
(run,) = record.runs
(job,) = [key for key in store.list("launch/") if key.endswith("/job.json")]
told = json.loads(store.read(job))
assert (told["stage"], told["nproc"], told["settings"]["run"]) == ("train", 2, "000003-hqclip"), told
result = json.loads(store.read(job.replace("job.json", "result.json")))
assert result["run"] == run["run"], (result, run)
print(f"two ranks trained {result['run']}: {result['steps']} steps")
