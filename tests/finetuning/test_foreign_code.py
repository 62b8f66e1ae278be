"""A base that brings Python files: training is refused in one line, nothing is asked, nothing of it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_training import tiny_settings

from finetuning.trainer import train_lora

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "pixart_scripts" / "common" / "train_lora.py"


def bring_code(folder: Path, configuration: str, ran: Path, **entries: Any) -> None:
    """Put a Python file that leaves `ran` behind where it is run into a folder, and name it in its configuration."""
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    path = folder / configuration
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | entries))


def test_a_tokenizer_that_brings_code_is_refused_without_a_question(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    ran = tmp_path / "ran"
    bring_code(settings.base / "tokenizer", "tokenizer_config.json", ran, auto_map={"AutoTokenizer": ["own.Own", None]})
    told = subprocess.run(
        [sys.executable, str(SCRIPT), "--train_dir", str(settings.train_dir), "--base", str(settings.base),
         "--output_dir", str(settings.output_dir), "--device", "cpu", "--steps", "2"],
        cwd=ROOT, text=True, capture_output=True, input="y\n" * 20,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )  # fmt: skip
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert "names code of its own (auto_map)" in told.stderr
    assert not told.stdout
    assert not ran.exists()
    assert not settings.output_dir.exists()


@pytest.mark.parametrize(
    ("part", "configuration", "entries"),
    [
        ("text_encoder", "config.json", {"auto_map": {"AutoModel": "own.Own"}}),
        ("transformer", "config.json", {"auto_map": {"AutoModel": "own.Own"}}),
        ("vae", "config.json", {"auto_map": {"AutoModel": "own.Own"}}),
        ("scheduler", "scheduler_config.json", {"auto_map": {"AutoModel": "own.Own"}}),
        (".", "model_index.json", {"_class_name": ["own", "Own"]}),
        (".", "model_index.json", {"scheduler": ["own", "Own"]}),
    ],
)
def test_every_part_that_brings_code_is_refused_before_anything_is_written(
    tmp_path: Path, part: str, configuration: str, entries: dict[str, Any]
) -> None:
    settings = tiny_settings(tmp_path)
    bring_code(settings.base / part, configuration, tmp_path / "ran", **entries)
    (settings.base / "scheduler" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(ValueError, match="never run here") as caught:
        train_lora(settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not settings.output_dir.exists()
