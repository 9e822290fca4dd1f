"""Statistics of a version and of its parent in, the histograms of the page out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hqclip.curate.clip_length import CONTEXT
from hqclip.curate.statistics import Statistics
from hqclip.report.refinement import Histogram

HISTOGRAMS = {
    "words_per_description": ("Words per description", ""),
    "clip_tokens_per_description": ("CLIP tokens per description", "All sentences of a sample together."),
    "clip_tokens_per_sentence": ("CLIP tokens per sentence", "What stands behind the line is not read in training."),
    "tags_per_sample": ("Tags per sample", ""),
    "negatives_per_sample": ("False sentences per sample", "Those that are kept."),
    "output_tokens": ("Output tokens per sample", ""),
    "attempts": ("Attempts per sample", ""),
}
SIMILARITY_STARTS = tuple(round(-0.2 + 0.05 * n, 2) for n in range(17))


def distributions(
    statistics: Statistics | None, parent: Statistics | None, drift: Mapping[str, float]
) -> list[Histogram]:
    """Of a version, with those of its parent as outlines; none where nothing was counted."""
    if not statistics:
        return []
    before = parent.histograms if parent else {}
    histograms = []
    for name, (title, caption) in HISTOGRAMS.items():
        found = statistics.histograms.get(name)
        if not found:
            continue
        same = name in before and before[name]["from"] == found["from"]
        is_length = name.startswith("clip_tokens")
        histograms.append(
            Histogram(
                name=title,
                starts=tuple(found["from"]),
                counts=tuple(found["counts"]),
                caption=caption,
                outline=tuple(before[name]["counts"]) if same else (),
                outline_name="parent" if same else "",
                line=CONTEXT + 1 if is_length else None,
                line_name=f"{CONTEXT} tokens" if is_length else "",
                drift=drift.get(name),
            )
        )
    return histograms


def similarity(pairs: Sequence[tuple[float, float]]) -> list[Histogram]:
    """What the champion thinks of true and false texts, by the cosines of the rows looked at."""
    if not pairs:
        return []
    true, false = ([0] * len(SIMILARITY_STARTS) for _ in range(2))
    for counts, column in ((true, 0), (false, 1)):
        for pair in pairs:
            at = sum(pair[column] >= start for start in SIMILARITY_STARTS) - 1
            counts[max(at, 0)] += 1
    return [
        Histogram(
            name="Similarity of picture and description",
            starts=SIMILARITY_STARTS,
            counts=tuple(true),
            outline=tuple(false),
            outline_name="the false sentences",
            caption=f"Cosines of the champion, of {len(pairs)} samples looked at.",
        )
    ]
