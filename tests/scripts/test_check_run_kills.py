"""A whole run that is killed at a random moment ends as an undisturbed one, whichever of its processes was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.measuring.check_run_kills import TURNS, check_kills, differences


def test_runs_killed_at_five_random_moments_end_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    kills = list(check_kills(tmp_path, 5, seed=4, forks_servers=True))
    assert [kill.differences for kill in kills] == [()] * 5
    assert [kill.target for kill in kills] == [target for _, target in TURNS[:5]]
    assert {kill.target for kill in kills} == {"run", "server", "worker"}
    # A phase of a tenth of a second may be over when its kill arrives. Two of the three that are asked for are certain.
    assert len({kill.phase for kill in kills}) >= 2, "the moments are spread over the run"
    # The comparison itself sees what it must.
    killed = min(tmp_path.glob("killed-?"))
    image = killed / "PixArt" / "output" / "00003.png"
    image.write_bytes(image.read_bytes()[:-20])
    (image.parent / ".t2i-partial-host-1-00001.png").write_bytes(b"")
    seen = list(differences(tmp_path / "whole", killed))
    assert "PixArt/output/00003.png differs" in seen
    assert "PixArt/output/.t2i-partial-host-1-00001.png is half written" in seen
