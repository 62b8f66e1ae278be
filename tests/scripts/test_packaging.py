"""What is installed: a wheel holds the program and its assets, and every list of dependencies says the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.locks import CPU_INDEX, find_versions, format_lock, main, read_requirements, without_cuda

ROOT = Path(__file__).parents[2]
PACKAGES = ("benchmark", "files", "finetuning", "metrics", "models")


def versions_of(lock: Path) -> dict[str, str]:
    lines = (line.split("==") for line in lock.read_text().splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, version in lines}


def test_requirements_txt_lists_the_dependencies_of_pyproject_and_the_project_itself() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [*project["dependencies"], "-e ."]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-cpu.lock"])
def test_a_lock_has_a_version_in_range_of_everything_that_is_asked_for(name: str) -> None:
    versions = versions_of(ROOT / name)
    for requirement in read_requirements(ROOT / "requirements-dev.txt"):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_the_cpu_lock_is_the_other_one_without_cuda() -> None:
    full, cpu = versions_of(ROOT / "requirements.lock"), versions_of(ROOT / "requirements-cpu.lock")
    assert cpu == without_cuda(full)
    assert {name for name in full.keys() - cpu.keys() if not name.startswith("nvidia-")} == {
        "cuda-bindings", "cuda-pathfinder", "cuda-toolkit",
    }  # fmt: skip
    assert {name: cpu[name] for name in cpu if cpu[name] != full[name]} == {
        "torch": f"{full['torch']}+cpu", "torchvision": f"{full['torchvision']}+cpu",
    }  # fmt: skip
    assert f"--extra-index-url {CPU_INDEX}" in (ROOT / "requirements-cpu.lock").read_text()


class Installed:
    """A distribution that is made up."""

    def __init__(self, name: str, version: str, *requires: str) -> None:
        self.metadata, self.version, self.requires = {"Name": name}, version, requires


def test_a_lock_holds_what_follows_from_the_requirements_and_nothing_else() -> None:
    there = {
        "torch": Installed("torch", "2.14.1", "cuda-toolkit[rt]==13; sys_platform == 'linux'", "x; os_name == 'nt'"),
        "cuda-toolkit": Installed("cuda-toolkit", "13", "nvidia-cuda-runtime; extra == 'rt'", "nvidia-x; extra == 'x'"),
        "nvidia-cuda-runtime": Installed("nvidia-cuda-runtime", "13.1"),
        "stray": Installed("stray", "1"),
    }  # fmt: skip
    found = find_versions([Requirement("Torch>=2")], there.__getitem__)  # type: ignore[arg-type]
    assert found == {"torch": "2.14.1", "cuda-toolkit": "13", "nvidia-cuda-runtime": "13.1"}
    assert without_cuda(found) == {"torch": "2.14.1+cpu"}
    assert format_lock(found, ["# head"]).splitlines() == [
        "# head", "cuda-toolkit==13", "nvidia-cuda-runtime==13.1", "torch==2.14.1",
    ]  # fmt: skip


def test_a_requirement_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "requirements-dev.txt").write_text("no-such-package-anywhere>=1\n")
    monkeypatch.setattr("scripts.locks.ROOT", tmp_path)
    assert main() == 2
    assert capsys.readouterr().err == (
        "locks: no-such-package-anywhere>=1 is not installed; run pip install -r requirements-dev.txt\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["requirements-dev.txt"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel offline, from a copy: a build leaves files in its folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in (*PACKAGES, "assets", "scripts", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("run_inference.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--quiet", "--wheel-dir", str(target)], check=True, cwd=target)
    (built,) = target.glob("*.whl")
    return built


def test_a_wheel_holds_the_program_and_its_assets_and_neither_scripts_nor_tests(wheel: Path) -> None:
    expected = {"run_inference.py"} | {
        str(path.relative_to(ROOT))
        for name in (*PACKAGES, "assets")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/assets/LICENSES.md") for name in names)


def test_an_installed_wheel_prints_a_table_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    settings: dict[str, Any] = {
        "WEIGHTS": "tiny", "NUM_SAMPLES": 2, "MODELS": "var", "NUM_REFERENCES": 4, "METRICS": "fidelity", "WARMUP": 0,
        "PYTHONPATH": site, "OMP_NUM_THREADS": 1,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "run_inference"], cwd=empty, capture_output=True, text=True, check=False,
        env=os.environ | {name: str(value) for name, value in settings.items()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("COMPREHENSIVE BENCHMARK RESULTS\n")
    assert (empty / "local_repo" / "tiny" / "results.json").is_file()
    code = "from benchmark.settings.fields import ASSETS; print(ASSETS)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=empty, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == str(site / "assets"), "not the checkout's"
