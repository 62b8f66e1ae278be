"""Pipelines of PRX through the program: as they run with the package ftfy, and what is said without it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from zoo_promises import ZooPromises, load
from zoo_prx import ENTRIES

PIPELINES = ("diffusers.pipelines.prx.pipeline_prx", "diffusers.pipelines.prx.pipeline_prx_pixel")


@pytest.fixture(scope="class")
def ftfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the package ftfy be there, which repairs nothing."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "ftfy.py").write_text("def fix_text(text):\n    return text\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for name in PIPELINES:
            patch.setattr(importlib.import_module(name), "ftfy", importlib.import_module("ftfy"), raising=False)
        yield
    del sys.modules["ftfy"]


@pytest.mark.usefixtures("ftfy")
class TestPrx(ZooPromises):
    entries = ENTRIES


@pytest.mark.skipif(importlib.util.find_spec("ftfy") is not None, reason="ftfy is installed")
@pytest.mark.parametrize("name", ENTRIES)
def test_prx_without_ftfy_is_refused_before_loading(name: str, zoo_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=rf"is a {name}, which needs the package ftfy: install it"):
        load(ENTRIES[name], zoo_folder(name))
