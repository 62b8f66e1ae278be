"""A column with a LoRA beside the same model without: found, paired, free of leaks, kept apart from earlier runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

import models
import run_inference
from benchmark.data.decoding import content_digest
from benchmark.report.contact_sheet import SheetRow
from benchmark.settings.command_line import parse_command
from benchmark.settings.fields import ASSETS
from metrics.base import Comparison, MetricUnavailable, Score
from models.base import ImageGenerator, LoraVariant, ModelFamily, Request, Runtime, option
from models.loras.files import describe_training_data, read_training_data, write_training_data


def write_lora(folder: Path, seed: int = 0, strength: float = 0.02) -> Path:
    """Write a LoRA of the embedded PixArt with random weights, as PEFT saves it."""
    from diffusers import PixArtTransformer2DModel
    from peft import LoraConfig, get_peft_model

    transformer = PixArtTransformer2DModel.from_pretrained(ASSETS / "pixart" / "transformer", dtype=torch.float32)
    torch.manual_seed(seed)
    model = get_peft_model(transformer, LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=strength)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT stumbles over its own when it saves again
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "pixart", "NUM_SAMPLES": "3", "NUM_REFERENCES": "6", "METRICS": "psnr,fidelity",
        "OUTPUT_DIR": str(tmp_path / "out"), "WARMUP": "0", "PIXART_STEPS": "2",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return tmp_path / "out"


def trained_captions(output: Path, rows: int) -> list[str]:
    """Return the captions of the first rows of the run's robots, and write that the LoRA was trained on them."""
    lines = (output / "Robots" / "input" / "manifest.jsonl").read_text().splitlines()[1 : rows + 1]
    records = [json.loads(line) for line in lines]
    captions = [record["caption"] for record in records]
    data = describe_training_data("Robots", [record["sha256"] for record in records], captions)
    write_training_data(output / "Robots" / "pixart_lora", data)
    return captions


def prompts(output: Path, column: str) -> list[str]:
    lines = [json.loads(line) for line in (output / column / "timings.jsonl").read_text().splitlines()]
    return [prompt for line in lines if line["kind"] == "batch" for prompt in line["prompts"]]


def test_the_whole_way(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Without a LoRA: one column.
    assert run_inference.main([]) == 0
    assert "PixArt+LoRA" not in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (output / "PixArt").rglob("*") if path.is_file()}

    # Training leaves one where it is looked for; it was trained on the first two rows.
    write_lora(output / "Robots" / "pixart_lora")
    trained = trained_captions(output, 2)
    assert run_inference.main([]) == 0
    told = capsys.readouterr()
    assert "PixArt+LoRA: LoRA found in" in told.err
    assert "PIXART_LORA=none leaves it out" in told.err
    assert "Metric                              PixArt               PixArt+LoRA" in told.out
    assert "PixArt+LoRA against PixArt, paired: PSNR" in told.out
    assert "are left out of prompts and references, for every column" in told.out
    assert "fused into the weights: output within" in told.out
    for column in ("PixArt-held-out", "PixArt+LoRA-held-out"):
        assert len(prompts(output, column)) == 3
        assert not set(prompts(output, column)) & set(trained)
    assert prompts(output, "PixArt-held-out") == prompts(output, "PixArt+LoRA-held-out")
    assert {path: path.stat().st_mtime_ns for path in before} == before, "the earlier run's images are as they were"
    result = json.loads((output / "results.json").read_text())
    assert [model["baseline"] for model in result["models"]] == ["", "PixArt"]
    pictures = [(output / name / "output" / "00000.png").read_bytes() for name in
                ("PixArt-held-out", "PixArt+LoRA-held-out")]  # fmt: skip
    assert pictures[0] != pictures[1]

    # A second run makes nothing anew; another LoRA is not mixed with the first one's images.
    stamps = [
        (output / name / "timings.jsonl").stat().st_mtime_ns for name in ("PixArt-held-out", "PixArt+LoRA-held-out")
    ]
    assert run_inference.main([]) == 0
    assert stamps == [
        (output / name / "timings.jsonl").stat().st_mtime_ns for name in ("PixArt-held-out", "PixArt+LoRA-held-out")
    ]
    write_lora(output / "Robots" / "pixart_lora", seed=1)
    capsys.readouterr()
    assert run_inference.main([]) == 0
    (_, other) = json.loads((output / "results.json").read_text())["models"]
    assert Path(other["folder"]).name.startswith("PixArt+LoRA-held-out-"), "a folder of its own"
    assert (Path(other["folder"]) / "output" / "00000.png").read_bytes() != pictures[1]
    assert (output / "PixArt+LoRA-held-out" / "output" / "00000.png").read_bytes() == pictures[1]
    # none: as before there was one, from the images of the first run.
    capsys.readouterr()
    assert run_inference.main(["--pixart-lora", "none"]) == 0
    assert "PixArt+LoRA" not in capsys.readouterr().out


def test_a_lora_of_another_tool_is_named_and_its_training_is_not_known(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_lora(tmp_path / "mine")
    assert run_inference.main(["--pixart-lora", str(folder), "--num-samples", "1", "--num-references", "2"]) == 0
    told = capsys.readouterr()
    assert "it is not known what the LoRA was trained on" in told.out
    assert "LoRA found" not in told.err
    assert (output / "PixArt+LoRA" / "output" / "00000.png").is_file()


def test_a_lora_of_another_network_fails_its_own_column_alone(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    weights = write_lora(tmp_path / "wide") / "adapter_model.safetensors"
    save_file({name: value.repeat(2, 2) for name, value in load_file(weights).items()}, weights)
    assert run_inference.main(["--pixart-lora", str(tmp_path / "wide"), "--num-samples", "1"]) == 1
    told = capsys.readouterr()
    assert "PixArt+LoRA: failed: ValueError: " in told.out
    assert "does not fit the base" in told.out
    assert "Speed Winner: PixArt (the only model)" in told.out
    assert "Traceback" not in told.err
    assert (output / "PixArt" / "output" / "00000.png").is_file()


def test_two_columns_of_one_title_are_refused(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lora(output / "Robots" / "pixart_lora")
    namesake = tmp_path / "PixArt+LoRA"
    namesake.mkdir()
    (namesake / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    monkeypatch.setenv("WEIGHTS", "pretrained")  # the others have no model of the hub's
    monkeypatch.setenv("DATASET", "robots")
    monkeypatch.setenv("MODELS", f"pixart,hub:{namesake}")
    assert run_inference.main([]) == 2
    assert "PixArt+LoRA would be two columns" in capsys.readouterr().err


def test_a_folder_that_is_no_lora_is_refused_before_anything_is_loaded(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main(["--pixart-lora", str(tmp_path)]) == 2
    assert "holds no adapter_config.json with adapter_model.safetensors" in capsys.readouterr().err
    assert not (output / "PixArt").exists()


def test_check_tells_of_the_lora(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_lora(output / "Robots" / "pixart_lora")
    assert run_inference.main(["--check"]) == 0
    told = capsys.readouterr().out
    assert f"PixArt+LoRA: LoRA found in {folder}" in told
    *_, column, downloads, end = told.split("\n")
    assert column.startswith("PixArt+LoRA: ")
    assert (downloads, end) == ("to download: nothing", "")
    assert f", LoRA {folder}; 0 images already there" in told
    assert run_inference.main(["--check", "--pixart-lora", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "LoRA found" not in told, "it was named"
    assert "PixArt+LoRA: " in told


def test_trainers_variables_are_no_slips_of_the_benchmarks() -> None:
    names = ("BASE_DIR", "COMBINED_BASE", "VALIDATION_PROMPT", "PYTHON_BIN", "NUM_PROCESSES")
    parse_command([], dict.fromkeys(names, "x"))


# The same with families of one grey, which take no time: what is asked, compared and said.
@dataclass(frozen=True)
class GreyOptions:
    lora: str = option("", "a LoRA's folder")


class Grey(ImageGenerator):
    def __init__(self, options: GreyOptions, runtime: Runtime) -> None:
        self.name, self.image_size, self.parameters = "Grey", runtime.image_size, 1_000_000
        self._level = 90 if options.lora else 60

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        return torch.full((len(requests), 3, self.image_size, self.image_size), self._level, dtype=torch.uint8)


def grey_variants(options: GreyOptions, default: Path | None) -> tuple[GreyOptions, LoraVariant | None]:
    folder = None if options.lora == "none" else Path(options.lora) if options.lora else default
    if folder is None:
        return GreyOptions(), None
    adapted = dataclasses.replace(options, lora=str(folder))
    return GreyOptions(), LoraVariant(adapted, "lora", folder, "0" * 16, read_training_data(folder))


GREY = ModelFamily(
    "grey", GreyOptions, lambda options: "Grey+A" if options.lora not in ("", "none") else "Grey",
    lambda *_: "made up", Grey, lora_folder="grey_lora", variants=grey_variants,
)  # fmt: skip
OTHER = ModelFamily("other", GreyOptions, lambda _: "Other", lambda *_: "made up", Grey)
PICTURES = 12


@pytest.fixture
def grey(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of three columns on a folder of twelve captioned images; returns the LoRA's folder, still empty."""
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, GREY, OTHER))
    pictures = tmp_path / "Shades"
    pictures.mkdir()
    for number in range(PICTURES):
        Image.new("RGB", (64, 64), (20 * number, 0, 0)).save(pictures / f"{number:02d}.png")
        (pictures / f"{number:02d}.txt").write_text(f"shade {number}")
    monkeypatch.delenv("PIXART_STEPS")  # a run without PixArt refuses it
    for name, value in {"MODELS": "grey,other", "DATASET": str(pictures), "METRICS": "psnr"}.items():
        monkeypatch.setenv(name, value)
    lora = output / "Shades" / "grey_lora"
    lora.mkdir(parents=True)
    return lora


def train_on(lora: Path, pictures: range, captions: Sequence[str] = ()) -> None:
    digests = [content_digest(Image.new("RGB", (64, 64), (20 * number, 0, 0))) for number in pictures]
    shades = [f"shade {number}" for number in pictures]
    write_training_data(lora, describe_training_data("Shades", digests, [*shades, *captions]))


def test_no_column_sees_what_one_was_trained_on(
    output: Path, grey: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_on(grey, range(4), captions=["shade 5"])
    seen: dict[str, Comparison] = {}
    sheets: list[Sequence[SheetRow]] = []

    def spy(_: object, comparison: Comparison) -> list[Score]:
        seen[comparison.generated.name] = comparison
        raise MetricUnavailable("looked at")

    def draw(rows: Sequence[SheetRow], _: object, path: Path) -> None:
        sheets.append(rows)
        path.write_bytes(b"drawn")

    monkeypatch.setattr("metrics.paired.PeakSignalToNoise.score", spy)
    monkeypatch.setattr("benchmark.report.files.draw_contact_sheet", draw)
    assert run_inference.main([]) == 0
    kept = [f"shade {number}" for number in (4, 6, 7, 8, 9, 10)]
    for title in ("Grey", "Grey+A", "Other"):
        assert prompts(output, f"{title}-held-out") == kept[:3]
        assert list(seen[title].reference.captions) == kept
        targets = seen[title].targets
        assert targets is not None
        captions = [path and path.with_name(path.name.replace("_input.png", "_caption.txt")) for path in targets]
        assert [path and path.read_text().strip() for path in captions] == kept[:3]
    assert [row.prompt for row in sheets[0]] == kept[:3]
    for row in sheets[0]:
        picture = row.tiles["reference"]
        assert picture is not None
        assert picture.with_name(picture.name.replace("_input.png", "_caption.txt")).read_text().strip() == row.prompt
        assert {"Grey", "Grey+A", "Other"} < set(row.tiles)
    training = seen["Grey+A"].training
    assert training is not None
    assert [path.name for path in training.paths] == [f"{number:05d}_input.png" for number in range(4)]
    assert seen["Grey"].training is seen["Other"].training is None
    told = capsys.readouterr()
    assert "Grey+A: LoRA found in" in told.err
    assert "(GREY_LORA=none leaves it out)" in told.err
    assert "5 of 11 rows, whose image (4) or caption Grey+A was trained on" in told.out


def test_each_mode_pairs_its_own_two_columns(output: Path, grey: Path) -> None:
    train_on(grey, range(2))
    assert run_inference.main(["--mode", "eager,compiled"]) == 0
    found = {model["name"]: model["baseline"] for model in json.loads((output / "results.json").read_text())["models"]}
    assert found == {
        "Grey": "", "Grey (compiled)": "", "Grey+A": "Grey", "Grey+A (compiled)": "Grey (compiled)",
        "Other": "", "Other (compiled)": "",
    }  # fmt: skip
    assert (output / "Grey+A-compiled-held-out" / "output" / "00002.png").is_file()


def test_where_too_few_are_left_the_column_is_marked(
    output: Path, grey: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_on(grey, range(PICTURES - 2))
    assert run_inference.main([]) == 0
    told = capsys.readouterr().out
    assert "Grey+A: WARNING: trained on 6 of the 6 reference rows, and only 2 others are left" in told
    assert "Grey: WARNING: trained" not in told
    assert prompts(output, "Grey+A") == prompts(output, "Other") == ["shade 0", "shade 1", "shade 2"]
    assert not list(output.glob("*-held-out"))


def test_a_lora_of_another_data_set_changes_nothing(output: Path, grey: Path) -> None:
    write_training_data(grey, describe_training_data("Else", ["ab" * 32], ["something else"]))
    assert run_inference.main([]) == 0
    assert prompts(output, "Grey+A") == ["shade 0", "shade 1", "shade 2"]


def test_other_training_data_is_another_run(
    grey: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_on(grey, range(2))
    assert run_inference.main([]) == 0
    train_on(grey, range(3))
    assert run_inference.main([]) == 2
    assert "Grey-held-out holds images made with HELD_OUT=" in capsys.readouterr().err
    monkeypatch.setenv("FRESH", "1")
    assert run_inference.main([]) == 0
    assert (grey / "training_data.json").is_file(), "starting over is not training again"


def test_random_weights_look_for_no_lora(grey: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_on(grey, range(2))
    assert run_inference.main(["--weights", "random"]) == 0
    assert "Grey+A" not in capsys.readouterr().out
    assert run_inference.main(["--weights", "random", "--grey-lora", str(grey), "--fresh", "1"]) == 0
    assert "Grey+A" in capsys.readouterr().out
