"""What the quick demo must have left behind: `python .ci/check_demo.py OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

from hqclip.records import Champion, CycleRecord
from hqclip.store import open_store

out = Path(sys.argv[1])
store = open_store(str(out / "store"))
records = [CycleRecord.from_json(store.read(key), key) for key in ("cycles/000001.json", "cycles/000002.json")]
assert [run["name"] for run in records[0].runs] == ["raw", "mixed", "hqclip"], records[0]
assert [run["name"] for run in records[1].runs] == ["hqclip"], records[1]
assert records[1].parent == 1
for record in records:
    page = store.read(record.report).decode()
    assert "<script" not in page, record.report
    assert page.count("data:image/") >= 4, record.report
champion = Champion.from_json(store.read("champion.json"), "champion.json")
assert champion.model in {run["run"] + "/model" for record in records for run in record.runs}, champion
print(f"the demo left two cycles, their reports and a champion: {champion.model}")
