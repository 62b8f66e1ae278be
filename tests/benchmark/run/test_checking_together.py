"""Before rank 0 checks what a column's folder holds, the other ranks have read their share of its images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from threadless import Threadless

from benchmark.console.progress import Progress, silent_stream
from benchmark.run import phases
from benchmark.settings.command_line import parse_command
from files.reading import knows_digest
from metrics.base import Scoring
from metrics.entries import ShareOfDigests


@pytest.mark.parametrize(("is_stopped", "is_missing"), [(False, False), (True, False), (False, True)])
def test_images_are_read_by_all_ranks_before_the_first_one_checks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stopped: bool, is_missing: bool
) -> None:
    paths = tuple(tmp_path / f"{index:05d}.png" for index in range(10))
    for path in paths:
        path.write_text(path.name)
    if is_missing:
        paths[0].unlink()
    helper, known = Threadless(1), list[bool]()
    scoring = Scoring("cpu", tmp_path, tmp_path / "cache", batch_size=4, helpers=helper)
    monkeypatch.setattr(phases, "scoring_of", lambda *_: scoring)
    monkeypatch.setattr(phases, "summarize", lambda *_: None)
    monkeypatch.setattr(phases, "evaluate", lambda *_: [])
    journal = SimpleNamespace(image_paths=lambda: paths, read=lambda: known.extend(map(knows_digest, paths)))
    jobs: Any = [SimpleNamespace(title="Noise", column=None, journal=journal)]
    data: Any = SimpleNamespace(reference=None)
    machine: Any = SimpleNamespace(device="cpu")
    progress, failures = Progress(silent_stream()), dict[str, str]()
    settings = parse_command([], {}).settings
    phases.evaluate_jobs(settings, jobs, data, machine, progress, lambda: is_stopped, failures)
    assert [type(work) for work in helper.works] == ([] if is_stopped else [ShareOfDigests])
    if is_missing:
        assert known[0] is False
        assert "Noise" in failures, "the column is told by the journal, not by an error"
    else:
        assert known == [not is_stopped] * 10
