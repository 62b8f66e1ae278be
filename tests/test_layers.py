"""Imports point down: models and metrics know neither the benchmark nor each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "files": {"benchmark", "finetuning", "metrics", "models", "run_inference", "scripts"},
    "models": {"benchmark", "finetuning", "metrics", "run_inference", "scripts"},
    "metrics": {"benchmark", "finetuning", "models", "run_inference", "scripts"},
    "benchmark": {"finetuning", "run_inference", "scripts"},
    "finetuning": {"run_inference", "scripts"},
}


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_imports_nothing_above_it(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not imported_packages(path) & FORBIDDEN[package], path


# The rooms of the benchmark, each above those that it uses.
ROOMS = ("console", "measure", "ranks", "data", "settings", "report", "run")


def python_files() -> list[Path]:
    folders = [*FORBIDDEN, "scripts", "tests"]
    return [ROOT / "run_inference.py", *(path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))]


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the project that a file imports, those for type checkers alone too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if is_module(name)}


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_the_benchmark_imports_none_above_it(room: str) -> None:
    above = ROOMS[ROOMS.index(room) + 1 :]
    for path in (ROOT / "benchmark" / room).rglob("*.py"):
        rooms = {name.split(".")[1] for name in imported_modules(path) if name.startswith("benchmark.")}
        assert not rooms & set(above), path


def test_every_module_of_the_benchmark_stands_in_a_room_but_for_its_programs() -> None:
    assert sorted(path.name for path in (ROOT / "benchmark").glob("*.py")) == ["__init__.py", "compare.py", "merge.py"]
    rooms = {path.name for path in (ROOT / "benchmark").iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(ROOMS)


def test_the_program_that_compares_runs_knows_reports_alone_and_no_room_knows_it() -> None:
    rooms = {name.split(".")[1] for name in imported_modules(ROOT / "benchmark" / "compare.py") if "." in name}
    assert rooms == {"console", "report"}
    for room in ROOMS:
        for path in (ROOT / "benchmark" / room).rglob("*.py"):
            assert "benchmark.compare" not in imported_modules(path), path


def test_the_program_that_joins_copies_leaves_the_work_to_the_run_and_no_room_knows_it() -> None:
    rooms = {name.split(".")[1] for name in imported_modules(ROOT / "benchmark" / "merge.py") if "." in name}
    assert rooms == {"console", "run"}
    for room in ROOMS:
        for path in (ROOT / "benchmark" / room).rglob("*.py"):
            assert "benchmark.merge" not in imported_modules(path), path


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = {
        module_name(path): {name for name in imported_modules(path) if name != module_name(path)}
        for path in python_files()
        if "tests" not in path.relative_to(ROOT).parts and path.name != "__init__.py"
    }
    left = {name: found & set(imports) for name, found in imports.items()}
    while free := {name for name, found in left.items() if not found & set(left)}:
        for name in free:
            del left[name]
    assert not left, f"these modules import each other: {sorted(left)}"


def test_no_file_has_more_than_400_lines_but_for_networks() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in python_files()
        if (count := len(path.read_text().splitlines())) > 400 and not path.is_relative_to(ROOT / "models" / "networks")
    }
    assert long == {}


def test_the_benchmark_knows_no_model_by_name() -> None:
    for path in (ROOT / "benchmark").rglob("*.py"):
        modules = {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
        }
        assert not {module for module in modules if module.startswith("models.") and module != "models.base"}, path
