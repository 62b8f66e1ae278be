"""The stages of the embedded VAR are measured, and each of its scales."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.measuring import measure_stages


def test_each_scale_is_printed_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "stages.json"
    monkeypatch.setattr("sys.argv", ["measure_stages.py", "--tiny", "--repeats", "2", "--output", str(output)])
    for name, value in {"MODELS": "var", "MODE": "eager", "DEVICE": "cpu", "BATCH_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert measure_stages.main() == 0
    (column,) = json.loads(output.read_text())["columns"]
    backbone, decoder = column["stages"]
    assert (backbone["calls"], len(backbone["call_seconds"])) == (8, 8)
    assert (decoder["calls"], len(decoder["call_seconds"])) == (1, 1)
    assert column["watched_calls"] == 2
    assert column["ratio"] == (backbone["seconds"] + decoder["seconds"]) / column["unwatched_seconds"]
    whole, scales = capsys.readouterr().out.splitlines()
    assert "; backbone " in whole
    assert "sum / latency " in whole
    assert scales.startswith("  backbone, 8 calls, ms: ")
    assert len(scales.removeprefix("  backbone, 8 calls, ms: ").split()) == 8
