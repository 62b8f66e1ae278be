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


def test_the_benchmark_knows_no_model_by_name() -> None:
    for path in (ROOT / "benchmark").glob("*.py"):
        modules = {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
        }
        assert not {module for module in modules if module.startswith("models.") and module != "models.base"}, path
