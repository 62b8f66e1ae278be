"""What of a run's folders is no row, for --check: named one by one, as far as it is known without decoding an image."""

from __future__ import annotations

from benchmark.data.run_data import Sources
from benchmark.data.sources.base import Surveyed
from benchmark.data.sources.folder import ImageFolder

MOST_LISTED = 100  # of one folder


def describe_left_out(sources: Sources) -> list[str]:
    """Return a line on each folder, one for each file in it that is no row, and one for each row without an image."""
    lines: list[str] = []
    for source in (sources.prompts, sources.reference):
        if isinstance(source, Surveyed):
            lines.append(f"files of {source.survey.summary(source.name)}")
            told = [f"  left out: {entry.name}: {entry.reason}" for entry in source.survey.left_out]
            if isinstance(source, ImageFolder):
                told += [f"  without an image: {entry.name}: {entry.reason}" for entry in source.losses()]
            lines += told[:MOST_LISTED]
            if len(told) > MOST_LISTED:
                lines.append(f"  and {len(told) - MOST_LISTED} more, which input/manifest.jsonl will name")
    return lines
