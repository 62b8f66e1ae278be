"""A leaderboard as it is printed, and as CSV and HTML files, which never take the place of another program's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.console.plain_text import visible
from benchmark.report.comparison.leaderboard import Entry, Leaderboard
from benchmark.report.comparison.text import tabulate
from benchmark.report.html.elements import grid, text
from benchmark.report.html.page import STYLE
from benchmark.report.numbers import NO_VALUE, shown_digits, shown_interval, shown_number
from benchmark.report.ownership import GENERATOR
from benchmark.report.table_csv import csv_line
from files.reading import is_there, read_head, shown
from files.writing import write_text

TITLE = "LEADERBOARD"
CSV_HEAD = (
    "rank", "section", "model", "run", "started", "device", "card", "driver", "latency_s", "latency_low_s",
    "latency_high_s", "energy_j_per_image", "peak_memory_bytes", "parameters", "images", "rounds", "score", "value",
    "value_low", "value_high", "first_is_better", "settings",
)  # fmt: skip
_HEAD_BYTES = 4096
_HEAD = f"{GENERATOR}<title>Leaderboard</title>"  # the report of a run has the same generator
_DESCRIPTION = "Columns of several runs, ranked among those that can be compared."


def format_leaderboard(board: Leaderboard) -> str:
    """Return the text of the leaderboard."""
    lines = [f"{TITLE}, by {_sorted_by(board)}"]
    for section in board.sections:
        rows = [[str(place), *_cells(entry, board)] for place, entry in enumerate(section.entries, 1)]
        lines += ["", section.title, *tabulate(("#", *_heads(board)), rows)]
    lines += ["", *_notes(board)]
    return "\n".join(map(visible, lines))


def write_leaderboard(board: Leaderboard, csv: Path, html: Path) -> None:
    """Write both files.

    Raises:
        ValueError: at one of the names is something that this program did not write, or both are the same name;
            nothing was written.
        OSError: one cannot be written.
    """
    if csv.resolve() == html.resolve():
        raise ValueError(f"{shown(csv)} cannot be both files: give --csv and --html two names")
    _refuse_foreign(csv, ",".join(CSV_HEAD).encode())
    _refuse_foreign(html, _HEAD.encode())
    lines: list[Sequence[object]] = [CSV_HEAD]
    for section in board.sections:
        lines += [_csv(place, section.title, entry) for place, entry in enumerate(section.entries, 1)]
    write_text(csv, "".join(map(csv_line, lines)))
    write_text(html, _page(board))


def _refuse_foreign(path: Path, mark: bytes) -> None:
    if path.is_dir():
        raise ValueError(f"{shown(path)} is a folder: name a file")
    if is_there(path) and (path.is_symlink() or mark not in read_head(path, _HEAD_BYTES)):
        raise ValueError(f"{shown(path)} is not a leaderboard of this program: name another file (--csv, --html)")


def _sorted_by(board: Leaderboard) -> str:
    return f"{board.short} ({board.better} = better)" if board.sort == "score" else "speed"


def _heads(board: Leaderboard) -> tuple[str, ...]:
    score = (board.short, "95 % interval") if board.short else ()
    return ("Model", *score, "s/image", "95 % interval", "J/image", "Against the first", "Card", "Run", "Settings")


def _cells(entry: Entry, board: Leaderboard) -> list[str]:
    score: list[str] = []
    if board.short:
        found = entry.score
        score = [
            NO_VALUE if found is None else shown_number(found.value, found.decimals),
            (shown_interval(found.interval, found.decimals) if found else "") or NO_VALUE,
        ]
    interval = entry.latency_interval
    seconds = NO_VALUE if interval is None else "..".join(shown_digits(end, 4) for end in interval)
    return [
        entry.column, *score, shown_digits(entry.latency_s, 4), seconds, shown_digits(entry.energy_j), _behind(entry),
        _card(entry), entry.run, listed_settings(entry.differing) or "-",
    ]  # fmt: skip


def _behind(entry: Entry) -> str:
    return {"WIN": "worse", "TIE": "tie", "UNDECIDED": "undecided", None: "-"}[entry.behind]


def _card(entry: Entry) -> str:
    """Return the device with the first digits of its card's UUID."""
    cards = [card.removeprefix("GPU-")[:8] for card in entry.card.split(", ") if card]
    return f"{entry.device} {', '.join(cards)}".strip()


def listed_settings(settings: Mapping[str, str]) -> str:
    """Return "MODE=eager, SDXL_STEPS=20"."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _notes(board: Leaderboard) -> list[str]:
    lines = ["Settings: those that are not the same in all entries; the CSV file has all of them."]
    if board.sort == "score":
        lines.append("Scores of different identities, references or numbers of images stand in sections of their own.")
    else:
        lines.append("Speeds of different machines stand in sections of their own, or are marked.")
    lines.append(
        "Against the first: worse beyond the 95 % interval of the two, a tie within 3 %, or undecided. The level holds "
        "for each pair by itself."
    )
    return lines


def _csv(place: int, section: str, entry: Entry) -> list[object]:
    score = entry.score
    latency_low, latency_high = entry.latency_interval or (None, None)
    low, high = (score.interval if score else None) or (None, None)
    return [
        place, section, entry.column, entry.run, entry.started, entry.device, entry.card, entry.driver, entry.latency_s,
        latency_low, latency_high, entry.energy_j, entry.peak_memory_bytes, entry.parameters, entry.images,
        entry.rounds, score and score.short, score and score.value, low, high, entry.behind or "",
        "; ".join(f"{name}={value}" for name, value in entry.settings.items()),
    ]  # fmt: skip


def _page(board: Leaderboard) -> str:
    body = [f"<h1>Leaderboard</h1><p>{text(_DESCRIPTION)} Ranked by {text(_sorted_by(board))}.</p>"]
    for section in board.sections:
        rows = [(str(place), _cells(entry, board)) for place, entry in enumerate(section.entries, 1)]
        body.append(f"<h2>{text(section.title)}</h2>{grid('#', _heads(board), rows, 'wide')}")
    notes = "".join(f"<li>{text(line)}</li>" for line in _notes(board))
    entries = [entry for section in board.sections for entry in section.entries]
    made = "".join(f"<li>{text(_made_with(entry))}</li>" for entry in entries)
    body.append(f'<ul class="notes">{notes}</ul><h2>All settings</h2><ul class="notes">{made}</ul>')
    style = f"<style>{STYLE} body {{ max-width: none; }} td {{ white-space: nowrap; }} "
    style += "td:last-child { white-space: normal; text-align: left; }</style>"
    head = f'<meta charset="utf-8">{_HEAD}{style}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _made_with(entry: Entry) -> str:
    """Return all that a column was made with."""
    card = "".join(f"; {what} {value}" for what, value in (("card", entry.card), ("driver", entry.driver)) if value)
    return f"{entry.column}, {entry.run} ({entry.started}): {listed_settings(entry.settings)}{card}"
