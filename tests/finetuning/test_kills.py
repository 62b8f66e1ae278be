"""Trainings that are killed at random moments end as undisturbed ones do, in all that they leave."""

from __future__ import annotations

import os
from pathlib import Path

from tiny_training import tiny_settings

from scripts.measuring.check_training_kills import check_kills

KILLS = int(os.environ.get("FINETUNE_KILLS", "3"))


def test_killed_at_random_moments_it_ends_with_the_same_files(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, steps=8, validate_every=2, validation_steps=2)
    kills = list(check_kills(settings, tmp_path / "kills", KILLS))
    assert len(kills) == KILLS
    assert [kill.differences for kill in kills] == [()] * KILLS
