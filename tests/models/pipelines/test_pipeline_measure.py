"""A pipeline is measured from its configurations alone; those of FLUX.1-dev are of its size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.pipelines.networks import count_parameters
from scripts.measuring import measure_pipeline
from scripts.measuring.pipeline_configurations import write_flux_dev


def test_flux_is_measured_with_random_weights_on_any_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pipeline.json"
    # Twice plain: no compiler is needed, and equal weights show as equal images.
    command = ["--tiny", "--device", "cpu", "--repeats", "1", "--modes", "eager,eager", "--output", str(output)]
    assert measure_pipeline.main(command) == 0
    first, second = json.loads(output.read_text())["modes"]
    assert first["pipeline"] == "FluxPipeline"
    assert first["arguments"]["num_inference_steps"] == 2
    assert list(first["stages_s"]) == ["text encoder", "backbone", "decoder"]
    assert second["max_difference_of_255"] == 0
    assert second["as_fast_as_first"] > 0
    assert "FluxPipeline eager: " in capsys.readouterr().out


def test_flux_has_the_published_number_of_weights(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import AutoConfig, CLIPTextModel, T5EncoderModel

    folder = write_flux_dev(tmp_path)
    classes: dict[str, Any] = {"transformer": FluxTransformer2DModel, "vae": AutoencoderKL}
    with torch.device("meta"):
        made = {name: kind.from_config(kind.load_config(folder / name)) for name, kind in classes.items()}
        for name, kind in {"text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}.items():
            made[name] = kind(AutoConfig.from_pretrained(folder / name))
    counts = {name: round(count_parameters(network) / 1e6) for name, network in made.items()}
    assert counts == {"transformer": 11901, "vae": 84, "text_encoder": 123, "text_encoder_2": 4762}
    assert len(made["transformer"].transformer_blocks) == 19
    assert len(made["transformer"].single_transformer_blocks) == 38
