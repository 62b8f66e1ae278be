"""The trainer on a CPU: what it leaves, stock PEFT, exact resumption, and errors before the first step."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import CAPTIONS, tiny_settings, train_until, write_images

from files.writing import PREFIX
from finetuning import trainer
from finetuning.checkpoints import load_checkpoint
from finetuning.folder import TrainingFolder
from finetuning.record import read_lines
from finetuning.trainer import LossNotFinite, train_lora
from models.loras.files import read_training_data

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "pixart_scripts" / "common" / "train_lora.py"


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_lines(folder / "training" / "metrics.jsonl")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_leaves_a_lora_its_data_and_its_record(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = tiny_settings(
        tmp_path, validate_every=3, validation_prompts=("a pink cat", "a tree"), validation_steps=2
    )
    outcome = train_lora(settings)
    folder = settings.output_dir
    assert outcome.trained
    assert [line["step"] for line in read_lines(folder / "training" / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert set(read_lines(folder / "training" / "metrics.jsonl")[0]) == {
        "step", "loss", "learning_rate", "images_per_s", "peak_memory_bytes",
    }  # fmt: skip
    assert outcome.loss == losses(folder)[-1]
    assert any(bool(value.any()) for key, value in weights(folder).items() if "lora_B" in key), "nothing was learnt"
    data = read_training_data(folder)
    assert data is not None
    assert (data.dataset, len(data.images)) == ("Robots", 6)
    assert all(data.holds_caption(caption) for caption in CAPTIONS)
    assert not data.holds_caption("another")
    assert len(list((folder / "training" / "validation").glob("*.png"))) == 2
    assert (folder / "training" / "loss.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(folder / "training" / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Images("validation")] == [3, 6]


def test_stock_peft_on_a_stock_pipeline_gives_our_images(tmp_path: Path) -> None:
    from diffusers import PixArtSigmaPipeline
    from peft import PeftModel

    from models import pixart
    from models.base import Request, Runtime

    settings = tiny_settings(tmp_path, learning_rate=5e-2, dora=True)
    train_lora(settings)
    options = pixart.Options(model=str(settings.base), steps=4, lora=str(settings.output_dir))
    runtime = Runtime("pretrained", "cpu", "float32", 32, tmp_path, tmp_path)
    ours = pixart.FAMILY.load(options, runtime).generate([Request(0, "a pink robot", 7)])[0]
    pipeline = PixArtSigmaPipeline.from_pretrained(settings.base, dtype=torch.float32)
    base = pixart.FAMILY.load(dataclasses.replace(options, lora=""), runtime).generate([Request(0, "a pink robot", 7)])[
        0
    ]
    pipeline.transformer = PeftModel.from_pretrained(pipeline.transformer, str(settings.output_dir))
    theirs = pipeline(
        "a pink robot", num_inference_steps=4, guidance_scale=4.5, height=32, width=32, clean_caption=False,
        use_resolution_binning=False, max_sequence_length=40, output_type="pt",
        generator=torch.Generator().manual_seed(7),
    ).images[0].mul(255).round()  # fmt: skip
    assert (ours.float() - theirs).abs().max() <= 1
    assert (ours.float() - base.float()).abs().max() > 1, "the LoRA changes nothing"


def test_a_second_call_finds_it_finished(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    train_lora(settings)
    before = {path: path.stat().st_mtime_ns for path in settings.output_dir.rglob("*")}
    assert not train_lora(settings).trained
    assert {path: path.stat().st_mtime_ns for path in settings.output_dir.rglob("*")} == before


def test_other_settings_are_refused_and_fresh_starts_over(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    train_lora(settings)
    other = dataclasses.replace(settings, rank=2)
    with pytest.raises(ValueError, match="holds a training with rank=4, now rank=2"):
        train_lora(other)
    assert train_lora(other, fresh=True).trained
    write_images(tmp_path / "More", count=5)
    with pytest.raises(ValueError, match="images=6 of"):
        train_lora(dataclasses.replace(other, train_dir=tmp_path / "More" / "input" / "train"))


@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation": 2, "lora_dropout": 0.3, "flip": True}])
def test_a_training_that_stops_goes_on_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    whole = tiny_settings(tmp_path, steps=7, **changes)
    train_lora(whole)
    stopped = dataclasses.replace(whole, output_dir=tmp_path / "stopped")
    train_until(5, stopped, monkeypatch)
    assert len(losses(stopped.output_dir)) == 5
    train_lora(stopped)
    assert losses(stopped.output_dir) == losses(whole.output_dir)
    assert equal(weights(stopped.output_dir), weights(whole.output_dir))


def run_script(settings: Any, folder: Path, *more: str) -> subprocess.Popen[str]:
    arguments = [
        "--train_dir", settings.train_dir, "--base", settings.base, "--output_dir", folder, "--batch_size", 2,
        "--steps", 120, "--learning_rate", 1e-2, "--rank", 4, "--log_every", 1, "--checkpoint_every", 5,
        "--validate_every", 0, "--device", "cpu", "--cache_dir", settings.cache, *more,
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_in_one_line_and_the_same_command_goes_on(tmp_path: Path, number: int, status: int) -> None:
    settings = tiny_settings(tmp_path)
    process = run_script(settings, tmp_path / "stopped")
    metrics = tmp_path / "stopped" / "training" / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and metrics.read_text().count("\n") > 6):
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate()
    assert process.returncode == status, told
    assert told.splitlines()[-1] == "train_lora: stopped; run the same command to resume from the last checkpoint"
    assert "Traceback" not in told
    assert not list((tmp_path / "stopped").rglob(f"{PREFIX}*"))
    folder = TrainingFolder(tmp_path / "stopped")
    assert load_checkpoint(folder.checkpoints, folder.ledger) is not None


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor, factor: float) -> torch.Tensor:
        context.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] * context.factor, None


def compile_with(monkeypatch: pytest.MonkeyPatch, gradient_scale: float) -> list[int]:
    """Have blocks compiled by a backend that answers right and scales the gradients of LoRA's factors; return the list
    of its calls.
    """
    calls: list[int] = []

    def scaled(tensor: Any) -> Any:
        if not (isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad):
            return tensor
        return ScaledGradient.apply(tensor, gradient_scale)

    def backend(graph: Any, _: Any) -> Any:
        def run(*inputs: Any) -> Any:
            calls.append(1)
            return graph(*(scaled(tensor) for tensor in inputs))

        return run

    use_backend(monkeypatch, backend)
    return calls


def use_backend(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    torch._dynamo.reset()
    original = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block, **_: original(block, backend=backend, dynamic=False))


def losses_of(settings: Any) -> list[float]:
    return [line["loss"] for line in read_lines(settings.output_dir / "training" / "metrics.jsonl")]


def settings_file(settings: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((settings.output_dir / "training" / "settings.json").read_text())
    return content


@pytest.mark.parametrize("gradient_scale", [1.5, 0.0, float("nan")])
def test_a_compiler_whose_gradients_are_wrong_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gradient_scale: float
) -> None:
    plain = tiny_settings(tmp_path, batch_size=3, steps=4)
    train_lora(plain)
    capsys.readouterr()
    wrong = dataclasses.replace(plain, compile=True, output_dir=tmp_path / "wrong")
    calls = compile_with(monkeypatch, gradient_scale)
    train_lora(wrong)
    assert "gives wrong gradients here" in capsys.readouterr().err
    assert len(calls) == 3 * blocks_of(plain.base), "the check's passes and no more"
    assert losses_of(wrong) == losses_of(plain)
    assert settings_file(wrong)["compiled"] is False


def test_wrong_gradients_of_loras_first_factor_are_seen_where_its_second_is_still_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from finetuning.step import TrainingStep

    settings = tiny_settings(tmp_path, batch_size=3, steps=4, compile=True)
    original = TrainingStep._gradients

    def only_a(self: TrainingStep, inputs: Any, parts: int) -> list[torch.Tensor]:
        gradients = original(self, inputs, parts)
        names = [name for name, parameter in self._model.named_parameters() if parameter.requires_grad]
        factor = 1000 if self.compiled else 1
        return [g * factor if "lora_A" in name else g for name, g in zip(names, gradients, strict=True)]

    monkeypatch.setattr(TrainingStep, "_gradients", only_a)
    compile_with(monkeypatch, 1.0)
    train_lora(settings)
    assert "gives wrong gradients here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes", [{}, {"lora_dropout": 0.1}, {"gradient_accumulation": 2}, {"gradient_checkpointing": True}]
)
def test_a_compiler_that_is_right_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    plain = tiny_settings(tmp_path, batch_size=3, steps=4, **changes)
    train_lora(plain)
    capsys.readouterr()
    settings = dataclasses.replace(plain, compile=True, output_dir=tmp_path / "compiled")
    calls = compile_with(monkeypatch, 1.0)
    train_lora(settings)
    assert "torch.compile" not in capsys.readouterr().err
    # With dropout, compiled passes are held against one another; a checkpoint makes each pass twice.
    check = 3 + ("lora_dropout" in changes)
    passes = (check + 4 * settings.gradient_accumulation) * (1 + settings.gradient_checkpointing)
    assert len(calls) == passes * blocks_of(settings.base)
    assert settings_file(settings)["compiled"] is True
    assert losses_of(settings) == pytest.approx(losses_of(plain), rel=1e-5)


def test_a_compiler_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def backend(*_: Any) -> Any:
        raise RuntimeError("no C++ compiler here")

    use_backend(monkeypatch, backend)
    assert train_lora(tiny_settings(tmp_path, compile=True)).trained
    assert "fails here (" in (told := capsys.readouterr().err)
    assert "no C++ compiler here" in told


def blocks_of(base: Path) -> int:
    return int(json.loads((base / "transformer" / "config.json").read_text())["num_layers"])


def test_images_that_were_added_since_it_began_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny_settings(tmp_path)
    whole = dataclasses.replace(settings, output_dir=tmp_path / "whole")
    train_lora(whole)
    train_until(3, settings, monkeypatch)
    shutil.copy(settings.train_dir / "00000_input.png", settings.train_dir / "00006_input.png")
    (settings.train_dir / "00006_caption.txt").write_text("one more\n")
    assert train_lora(settings).trained
    assert (
        "1 images were added since this training began, which goes on without them; --fresh starts over with them"
        in capsys.readouterr().err
    )
    assert equal(weights(settings.output_dir), weights(whole.output_dir))
    assert not train_lora(settings).trained
    (settings.train_dir / "00001_input.png").unlink()
    with pytest.raises(ValueError, match="holds a training with images=6 of"):
        train_lora(settings)


def test_two_processes_learn_what_one_does_with_twice_the_batch(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, steps=4, batch_size=4)
    train_lora(settings)
    launched = tmp_path / "launched"
    # The launcher has no other name for torch.distributed on one machine; the trainer puts its processes on the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    arguments = {
        "train_dir": settings.train_dir, "base": settings.base, "output_dir": launched, "batch_size": 2, "steps": 4,
        "learning_rate": 1e-2, "rank": 4, "log_every": 1, "validate_every": 0, "device": "cpu",
        "cache_dir": settings.cache, "caption_dropout": 0.2,
    }  # fmt: skip
    given = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    told = subprocess.run(
        [*launch, "--main_process_port", "0", str(SCRIPT), *given],
        cwd=ROOT, text=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-2000:]
    assert told.stdout.count("4 steps, loss") == 1
    assert json.loads((launched / "training" / "settings.json").read_text())["settings"]["processes"] == "2"
    assert losses(launched) == pytest.approx(losses(settings.output_dir), rel=1e-4)
    mine, theirs = weights(settings.output_dir), weights(launched)
    for key in mine:
        torch.testing.assert_close(mine[key], theirs[key], rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_stops_it_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(tmp_path)
    original = trainer.TrainingStep.__call__

    def broken(self: Any, step: int) -> torch.Tensor:
        loss = original(self, step)
        return loss * float("nan") if step == 4 else loss

    monkeypatch.setattr(trainer.TrainingStep, "__call__", broken)
    with pytest.raises(LossNotFinite, match=r"nan at step 5; the checkpoint of step 4 is kept"):
        train_lora(settings)
    assert sorted(path.name for path in (settings.output_dir / "training" / "checkpoints").iterdir()) == [
        "step-000002.pt", "step-000004.pt",
    ]  # fmt: skip
    assert not (settings.output_dir / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"resolution": 36}, ValueError, "resolution=36: this base needs a multiple of 8"),
        ({"target_modules": ("to_x",)}, ValueError, "no linear layer to_x"),
        ({"batch_size": 10**9}, ValueError, r"BS=1000000000 needs about .* GB on cpu .* BS=\d+ fits"),
    ],
)
def test_what_cannot_be_trained_is_said_before_the_first_step(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    settings = tiny_settings(tmp_path, **changes)
    with pytest.raises(error, match=words) as caught:
        train_lora(settings)
    assert "\n" not in str(caught.value)
    assert not (settings.output_dir / "training" / "metrics.jsonl").exists()
    assert not settings.cache.exists(), "nothing was encoded yet"
    assert train_lora(dataclasses.replace(settings, resolution=0, batch_size=2, target_modules=("to_q",))).trained


def test_a_base_that_is_not_whole_names_the_script_that_makes_one(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    (settings.base / "vae").rename(tmp_path / "vae")
    with pytest.raises(OSError, match=r"has no vae/.*build_combined_base.py"):
        train_lora(settings)


def test_the_script_takes_the_environments_names(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    told = subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--validate_every", "0"],
        cwd=ROOT, text=True, capture_output=True,
        env={**os.environ, "BASE_DIR": str(tmp_path / "Robots"), "COMBINED_BASE": str(settings.base), "BS": "2",
             "STEPS": "2", "LR": "0.01", "LORA_RANK": "3", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    folder = tmp_path / "Robots" / "pixart_lora"
    assert told.stdout.startswith(f"{folder}: 2 steps, loss")
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 3
    wrong = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=ROOT, text=True, capture_output=True, env={**os.environ, "BS": "many"}
    )
    assert wrong.returncode == 2
    assert "many" in wrong.stderr
