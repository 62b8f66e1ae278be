"""Pipelines of the zoo through the program as people start it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from zoo_pipelines import ENTRIES
from zoo_programs import flags, images_of
from zoo_promises import remembered_images

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "name",
    ["StableDiffusionPipeline", "FluxPipeline", "KandinskyV22CombinedPipeline", "AmusedPipeline", "QwenImagePipeline"],
)
def test_process_makes_the_pipelines_own_images(name: str, zoo_folder: Callable[[str], Path], tmp_path: Path) -> None:
    entry, folder, output = ENTRIES[name], zoo_folder(name), tmp_path / "out"
    command = [sys.executable, str(ROOT / "run_inference.py"), *flags([folder], entry, output)]
    # Of as many threads as the tests: sums of other parts round differently.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    np.testing.assert_array_equal(images_of(output, name), remembered_images(entry, folder))
    assert name in run.stdout
    assert json.loads((output / "results.json").read_text())["models"]
