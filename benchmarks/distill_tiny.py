"""What distillation is worth: `python benchmarks/distill_tiny.py [SAMPLES] [HELD_OUT]`.

The tiny LVLM of the demo learns the wording of a teacher who sees what is in a picture and says it differently (tags
with an article, the background first). The teacher answers over HTTP as any server would. Prints a Markdown table of
both models on held-out pictures; nothing here needs a GPU.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hqclip.distill.stage import run
from tests.distilling import World

ROWS = {
    "valid answers without grammar": "valid",
    "tag F1": "tag_f1",
    "false-tag F1": "neg_tag_f1",
    "description ROUGE-L": "desc_f1",
    "false-description ROUGE-L": "neg_desc_f1",
    "agreement (mean of the four)": "agreement",
    "negatives that equal a positive": "negatives_equal_positives",
}


def main(samples: str = "600", held_out: str = "100") -> None:
    """Print the table, and the result behind it on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), int(samples) + int(held_out), (1, 2, 3))
        with world.school() as server:
            sizes = {"samples": int(samples), "held_out": int(held_out)}
            training = {"learning_rate": 5e-3, "epochs": 6.0, "micro_batch": 16, "in_flight": 16}
            result = run(world.settings(server.url, **sizes, **training))
    print(json.dumps(result, indent=1), file=sys.stderr)
    print(f"| {result['judged_on']} held-out pictures | untaught | taught on {result['learned_from']} |\n|---|---|---|")
    for name, figure in ROWS.items():
        print(f"| {name} | {result['base'][figure]:.1%} | {result['taught'][figure]:.1%} |")
    steps, seconds = result["training"]["steps"], result["seconds"]
    print(f"\n{result['reason']} (accepted: {result['accepted']}).")
    print(f"{steps} steps of 16 answers; {seconds:.0f} s in all, one thread of {os.cpu_count()} cores.")


if __name__ == "__main__":
    main(*sys.argv[1:])
