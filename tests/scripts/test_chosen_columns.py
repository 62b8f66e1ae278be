"""Columns of measuring scripts: each with its own dtype; and scripts that make one configuration of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from safetensors.torch import save_file

from models.loras.files import CONFIG_NAME, WEIGHTS_NAME
from scripts.measuring import check_verdicts
from scripts.measuring.chosen_columns import add_column_flags, choose_columns, loader_of
from scripts.pixart_scripts.common import infer_finetuned


def test_each_column_is_loaded_in_its_own_dtype(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path))
    monkeypatch.setenv("SWEEP", "sdxl.steps=1,2")
    parser = argparse.ArgumentParser()
    add_column_flags(parser)
    arguments = parser.parse_args(["--models", "sdxl", "--dtype", "float32,bfloat16"])
    arguments.device = "cpu"
    found = [
        (column.title, machine.dtype, loader_of(column, machine).args[1].dtype)  # type: ignore[attr-defined]
        for column, machine in choose_columns(arguments)
    ]
    assert found == [
        ("SDXL (steps 1, float32)", "float32", "float32"), ("SDXL (steps 2, float32)", "float32", "float32"),
        ("SDXL (steps 1, bfloat16)", "bfloat16", "bfloat16"), ("SDXL (steps 2, bfloat16)", "bfloat16", "bfloat16"),
    ]  # fmt: skip


@pytest.mark.parametrize(("variable", "value"), [("DTYPE", "float32,bfloat16"), ("SWEEP", "pixart.steps=2,4")])
def test_a_script_that_makes_one_configuration_refuses_several_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    lora = tmp_path / "pixart_lora"
    lora.mkdir()
    (lora / CONFIG_NAME).write_text("{}")
    save_file({}, lora / WEIGHTS_NAME)
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("WEIGHTS", "tiny")
    given = ["--base_dir", str(tmp_path), "--prompt", "a robot", "--output_dir", str(tmp_path / "out")]
    assert infer_finetuned.main(given) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"infer_finetuned: {variable}={value}: infer_finetuned takes one")
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=f"{variable}={value}: check_verdicts takes one"):
        check_verdicts.main(["--models", "pixart", "--tiny", "--output", str(tmp_path / "verdicts.json")])
