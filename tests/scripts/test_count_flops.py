"""The script that counts FLOPs runs at a small size, and fails where a count leaves its closed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models import pixart, sdxl
from models.networks.var_transformer import VARShape
from scripts.measuring import closed_forms, count_flops
from scripts.measuring.closed_forms import attention, linear


def test_every_count_is_its_closed_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "flops.json"
    assert count_flops.main(["--tiny", "--output", str(output)]) == 0
    found: dict[str, Any] = json.loads(output.read_text())
    assert [one["ratio"] for one in found["networks"]] == [1.0] * 6
    assert {image["model"] for image in found["images"]} == {"SDXL", "PixArt", "VAR-d16", "Infinity-2B"}
    assert found["about"]["batch_size"] == 1
    assert "| Infinity-2B's transformer, one image, two rows | 256 |" in capsys.readouterr().out


def test_a_count_off_its_form_is_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def three_percent_more(shape: VARShape) -> int:
        return round(1.03 * real(shape))

    real = closed_forms.var
    monkeypatch.setattr(closed_forms, "var", three_percent_more)
    assert count_flops.main(["--tiny", "--output", str(tmp_path / "flops.json")]) == 1


@pytest.mark.parametrize("name", count_flops.PUBLISHED_MACS)
def test_without_attentions_products_the_forms_are_the_published_figures(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_forms, "attention", lambda *_: 0)
    if name == "SDXL":
        form = closed_forms.unet(sdxl.FULL.unet, 128, count_flops.CLIP_TOKENS)
    else:
        form = closed_forms.pixart(pixart.FULL.transformer, 128, count_flops.PIXART_ALPHA_TOKENS)
    assert form == pytest.approx(2 * count_flops.PUBLISHED_MACS[name] / count_flops.PUBLISHED_CALLS, rel=1e-3)


def test_with_them_the_arithmetic_is_that_of_dits_published_figure() -> None:
    # DiT-XL/2 at 256 px: PixArt's blocks without the text. The paper counts MACs. Source: arXiv 2212.09748.
    tokens, width = 256, 1152
    blocks = 28 * (linear(tokens, width, 12 * width) + attention(tokens, tokens, width) + linear(1, width, 6 * width))
    assert blocks / 2 == pytest.approx(118.6e9, rel=1e-3)
