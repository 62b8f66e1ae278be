"""An option that was set reaches a column of the run, or is refused; a default that is written out is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
from parsing import no_settings_in_the_environment as no_settings_in_the_environment
from parsing import parse, read_line, refusal


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("MODELS=sdxl HUB_STEPS=5", "HUB_STEPS=5 reaches no column of this run: it has no hub; leave it out"),
        (
            "MODELS=pixart SDXL_NEGATIVE_PROMPT=x",
            "SDXL_NEGATIVE_PROMPT=x reaches no column of this run: it has no sdxl",
        ),
        ("SKIP_SDXL=1 SDXL_STEPS=30", "SDXL_STEPS=30 reaches no column of this run: it has no sdxl; leave it out"),
        ("MODELS=var-d16 INFINITY_POSITIVE_PROMPT=1", "INFINITY_POSITIVE_PROMPT=1 reaches no column of this run"),
        ("MODELS=sdxl WEIGHTS=tiny PIXART_STEPS=5", "PIXART_STEPS=5 reaches no column of this run: it has no pixart"),
        ("WEIGHTS=tiny SDXL_MODEL=org/name", "SDXL_MODEL=org/name reaches no column: SDXL: WEIGHTS=tiny reads the emb"),
        ("WEIGHTS=tiny SDXL_CONFIG=org/name", "SDXL_CONFIG=org/name reaches no column: SDXL: WEIGHTS=tiny"),
        ("WEIGHTS=random SDXL_VAE=org/name", "SDXL_VAE=org/name reaches no column: SDXL: WEIGHTS=random draws"),
        ("WEIGHTS=tiny VAR_MODEL=org/name", "VAR_MODEL=org/name reaches no column: VAR-d16: WEIGHTS=tiny"),
        ("WEIGHTS=random PIXART_BASE=org/name", "PIXART_BASE=org/name reaches no column: PixArt: WEIGHTS=random"),
        ("WEIGHTS=tiny PIXART_MODEL=org/name", "PIXART_MODEL=org/name reaches no column: PixArt: WEIGHTS=tiny"),
        ("WEIGHTS=tiny INFINITY_TEXT_ENCODER=org/name", "INFINITY_TEXT_ENCODER=org/name reaches no column: Infinity"),
        ("VAR_CLASSES=1 VAR_CLIP=org/name", "VAR_CLIP=org/name reaches no column: VAR-d16: its classes are not chosen"),
    ],
)
def test_an_option_that_reaches_no_column_is_refused(monkeypatch: pytest.MonkeyPatch, line: str, told: str) -> None:
    assert told in refusal(monkeypatch, *read_line(line))


@pytest.mark.parametrize(
    "line",
    [
        "SKIP_SDXL=1 SDXL_STEPS=20", "WEIGHTS=tiny MODELS=pixart SDXL_STEPS=10", "MODELS=pixart PIXART_STEPS=5",
        "WEIGHTS=tiny SDXL_MODEL=stabilityai/stable-diffusion-xl-base-1.0", "MODELS=sdxl,pixart SDXL_VAE=org/name",
        "WEIGHTS=tiny VAR_CLASSES=nearest VAR_CLIP=org/name", "MODELS=pixart HUB_STEPS=0",
    ],
)  # fmt: skip
def test_options_that_reach_a_column_and_written_defaults_are_taken(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    parse(monkeypatch, *read_line(line))


def test_the_base_beside_a_whole_pipeline_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for part in ("transformer", "vae", "text_encoder"):
        (tmp_path / "mine" / part).mkdir(parents=True)
    told = refusal(monkeypatch, ["--pixart-model", str(tmp_path / "mine"), "--pixart-base", "org/name"], {})
    assert "PIXART_BASE=org/name reaches no column: PixArt: PIXART_MODEL=" in told
