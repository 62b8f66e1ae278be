"""Settings of a training: the schedule in closed form, and what is refused before anything is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from finetuning.settings import TrainingSettings
from scripts.pixart_scripts.common.train_lora import build_parser


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{"train_dir": Path("train"), "base": Path("base"), "output_dir": Path("x/out")} | changes)


def test_the_cosine_begins_at_the_rate_and_ends_at_zero() -> None:
    asked = settings(steps=100, learning_rate=2.0)
    rates = [asked.learning_rate_at(step) for step in range(100)]
    assert rates[0] == 2.0
    assert rates[50] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(1 - math.cos(math.pi / 100), rel=1e-9)
    assert rates == sorted(rates, reverse=True)


def test_the_warm_up_is_linear_and_constant_stays() -> None:
    asked = settings(steps=10, learning_rate=1.0, warmup_steps=4, schedule="constant")
    assert [asked.learning_rate_at(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"caption_dropout": 1.0}, "caption_dropout=1.0"),
        ({"warmup_steps": 1000}, "leaves none"),
        ({"device": "gpu"}, "device=gpu: expected auto, cpu, cuda"),
        ({"snr_gamma": -1.0}, "snr_gamma=-1.0: expected a number above 0"),
        ({"weight_decay": math.nan}, "weight_decay=nan: expected 0 or more"),
        ({"target_modules": ()}, "target_modules is empty"),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(**changes)


def test_the_fingerprint_holds_what_is_learnt_and_not_where_it_lies() -> None:
    one, other = settings(), settings(train_dir=Path("elsewhere"), log_every=3, validation_prompts=("a",))
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != settings(rank=8).fingerprint()
    assert one.cache == Path("x/encodings")


def test_the_dtype_of_the_lora_is_recorded_as_earlier_versions_did_and_taken_by_both_flags() -> None:
    assert settings(lora_dtype="float16").fingerprint()["adapter_dtype"] == "float16"
    assert "lora_dtype" not in settings().fingerprint()
    for flag in ("--lora_dtype", "--adapter_dtype"):
        assert build_parser({}).parse_args([flag, "float16"]).lora_dtype == "float16"
