"""docs/robustness.md names a test for each promise, and each test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?`")


def defined_tests() -> dict[str, set[str]]:
    """Return the names of the tests of each file, by the file's path under tests/."""
    found = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        names = {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
        found[str(path.relative_to(ROOT / "tests"))] = names
    return found


def test_every_test_that_the_document_names_exists() -> None:
    tests = defined_tests()
    named = NAMED.findall(TEXT)
    assert len(named) > 100
    assert [f"{file}::{name}" for file, name in named if file not in tests or name not in tests[file] | {""}] == []


def test_every_promise_names_a_test_or_says_that_there_is_none() -> None:
    promises = [" ".join(f"- {text}".split()) for part in TEXT.split("\n## ")[1:] for text in part.split("\n- ")[1:]]
    assert len(promises) > 60
    libraries = ("transformers", "diffusers", "torch-fidelity", "torchvision", "tokenizers", "datasets", "Pillow")
    untold = [
        promise[:80]
        for promise in promises
        if not NAMED.search(promise)
        and "no test" not in promise
        and not promise.startswith(tuple(f"- {name}" for name in libraries))
    ]
    assert untold == []


def test_every_script_that_the_document_names_exists() -> None:
    for name in re.findall(r"python -m (scripts(?:\.\w+)+)", TEXT):
        assert (ROOT / f"{name.replace('.', '/')}.py").is_file()
