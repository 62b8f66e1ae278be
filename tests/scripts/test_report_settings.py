"""The settings of a fine-tuning report: a sweep over the LoRA's strength, whatever else the environment asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.pixart import HUB_BASE
from scripts.finetune_report import read_arguments, read_settings, read_strengths

LORA = Path(__file__).parents[2] / "assets" / "emoji_lora"


def test_the_strengths_are_a_sweep_over_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WEIGHTS": "tiny", "SWEEP": "pixart.steps=2,4", "MODE": "compiled", "ROUNDS": "5"}.items():
        monkeypatch.setenv(name, value)
    arguments = read_arguments(["--batch_size", "3", "--seed", "7"])
    settings = read_settings(arguments, LORA, read_strengths("0.75,0.3333333333333333"))
    (axis,) = settings.swept()
    assert (axis.setting, axis.values) == ("pixart_lora_scale", (0.3333333333333333, 0.75, 1.0))
    assert (settings.mode, settings.rounds, settings.batch_size, settings.seed) == (("eager",), 1, 3, 7)


def test_the_base_and_the_whole_lora_are_always_there() -> None:
    assert read_strengths("0.5") == [0.0, 0.5, 1.0]
    assert read_strengths("1,0,1.0") == [0.0, 1.0]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WEIGHTS": "random"}, "WEIGHTS=random: random weights have no quality that a LoRA could change"),
        ({"WEIGHTS": "tiny", "DTYPE": "float32,bfloat16"}, "DTYPE=float32,bfloat16: a report takes one dtype"),
    ],
)
def test_what_no_report_can_be_made_of_is_refused(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words):
        read_settings(read_arguments([]), LORA, [0.0, 1.0])


def test_the_combined_base_is_the_model_and_needs_no_other_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("transformer", "vae", "text_encoder"):
        (tmp_path / "combined" / part).mkdir(parents=True)
    monkeypatch.setenv("COMBINED_BASE", str(tmp_path / "combined"))
    monkeypatch.setenv("PIXART_BASE", "other/base")
    settings = read_settings(read_arguments([]), LORA, [0.0, 1.0])
    (model,) = settings.selected_models()
    assert (model.options.model, model.options.base) == (str(tmp_path / "combined"), HUB_BASE)
