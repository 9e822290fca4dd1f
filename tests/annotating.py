"""`annotate` with an engine that answers from a table, as a program that can be killed at any change of the store.

`python -m tests.annotating SETTINGS KILL_AT DELAY_S` runs the stage with JSON settings and dies like kill -9 before the
KILL_AT-th object is published or deleted (0: never); it prints how many changes there were.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hqclip import log
from hqclip.annotate import partial_rows, stage, worker
from hqclip.annotate.engines.protocol import Answer, Request
from hqclip.config import AnnotateConfig
from hqclip.errors import HQClipError
from tests.fakes.cut_short import die_at_change
from tests.fakes.engines import GOOD, ScriptedEngine, said

PART_ROWS = 8


class TellsUid(ScriptedEngine):
    """Says of every picture which it is, so that a row in the wrong place is seen; faults every seventh for good."""

    async def _answer(self, request: Request) -> Answer:
        await super()._answer(request)
        return said("no JSON" if int(request.uid, 16) % 7 == 3 else GOOD.replace("an a", f"picture {request.uid}"))


def main(settings: str, kill_at: str, delay_s: str) -> int:
    """Run the stage; its exit code."""
    changes = die_at_change(int(kill_at))
    partial_rows.PART_ROWS = PART_ROWS
    engine = TellsUid(delay_s=float(delay_s))
    worker.make_engine = lambda *_: engine
    try:
        result = stage.run(AnnotateConfig.from_mapping(json.loads(settings)))
    except HQClipError as error:
        return log.fault("annotate", error)
    print(json.dumps({"changes": changes(), "asked": len({r.uid for r in engine.asked}), **result}))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main(*sys.argv[1:]))
