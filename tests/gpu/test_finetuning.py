"""Training on a GPU: the captured step learns what the plain one does, and goes on exactly from a checkpoint."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "finetuning"))
from tiny_training import tiny_settings, train_until

from benchmark.console.progress import Progress
from finetuning.encodings import encode_captions
from finetuning.record import read_lines
from finetuning.trainer import train_lora

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _another_precision_for_each_test() -> None:
    """accelerate holds to the precision that a process began with."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_lines(folder / "training" / "metrics.jsonl")]


def test_compiled_and_captured_steps_learn_what_plain_ones_do(tmp_path: Path) -> None:
    plain = tiny_settings(tmp_path, device="cuda", steps=8, dtype="float32")
    captured = dataclasses.replace(plain, compile=True, output_dir=tmp_path / "captured")
    accumulated = dataclasses.replace(
        captured, batch_size=1, gradient_accumulation=2, output_dir=tmp_path / "accumulated"
    )
    for settings in (plain, captured, accumulated):
        train_lora(settings)
    assert losses(captured.output_dir) == pytest.approx(losses(plain.output_dir), rel=2e-3)
    assert len(losses(accumulated.output_dir)) == 8
    assert losses(captured.output_dir)[-1] != losses(captured.output_dir)[0]


def test_a_captured_training_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Bit for bit, as one H100 did it with torch 2.11.
    whole = tiny_settings(tmp_path, device="cuda", steps=7, compile=True, dtype="bfloat16")
    train_lora(whole)
    stopped = dataclasses.replace(whole, output_dir=tmp_path / "stopped")
    train_until(5, stopped, monkeypatch)
    train_lora(stopped)
    assert losses(stopped.output_dir) == losses(whole.output_dir)
    one, other = (load_file(s.output_dir / "adapter_model.safetensors") for s in (whole, stopped))
    for key in one:
        assert torch.equal(one[key], other[key]), key


def test_captions_are_the_same_with_the_encoder_in_parts(tmp_path: Path) -> None:
    base = tiny_settings(tmp_path).base
    one, other = (
        encode_captions(["", "a pink robot"], base, tmp_path / way, "cuda", torch.float32, Progress(), way)  # type: ignore[arg-type]
        for way in ("never", "always")
    )
    torch.testing.assert_close(one.tokens_TC, other.tokens_TC)
