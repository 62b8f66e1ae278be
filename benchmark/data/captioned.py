"""Rows that can be asked for: a row without a caption is no prompt, and is left out, counted and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmark.data.preparation import PreparedRows


def keep_captioned(prepare: Callable[[int], PreparedRows], count: int) -> PreparedRows:
    """Return the first `count` rows that have a caption; `uncaptioned` is how many others lie before the last of them.

    prepare: gives as many first rows as it is asked for, or all that there are.

    Raises:
        OSError, ValueError: as `prepare`, or no row has a caption.
    """
    rows = prepare(count)
    kept = tuple(row for row in rows.rows if row.caption)
    while len(kept) < count and not rows.exhausted:
        rows = prepare(len(rows.rows) + max(count - len(kept), len(rows.rows) // 4))
        kept = tuple(row for row in rows.rows if row.caption)
    if not kept:
        raise ValueError(
            f"no row of {rows.name} has a caption ({len(rows.rows)} were read; input/manifest.jsonl says what was "
            "found): name the captions' column with CAPTION_COLUMN, or give another data set"
        )
    chosen = kept[:count]
    before = sum(row.index <= chosen[-1].index for row in rows.rows) if len(kept) >= count else len(rows.rows)
    exhausted = rows.exhausted and len(chosen) == len(kept)
    return replace(rows, rows=chosen, exhausted=exhausted, uncaptioned=before - len(chosen))


def tell_captions(rows: PreparedRows) -> list[str]:
    """Return what the footer says of the rows' captions: which are missing, and which are damaged."""
    told = []
    if rows.uncaptioned:
        what = "1 row" if rows.uncaptioned == 1 else f"{rows.uncaptioned} rows"
        told.append(f"{what} of {rows.name} without a caption left out (see input/manifest.jsonl)")
    if damaged := sum("\ufffd" in row.caption for row in rows.rows):
        what = "1 caption" if damaged == 1 else f"{damaged} captions"
        told.append(f"{what} of {rows.name} with U+FFFD in the place of what is no text")
    return told
