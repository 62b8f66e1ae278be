"""The zoo's pipelines: folders written once in a session, each loaded once for its tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from zoo_promises import Tiny

pytest.register_assert_rewrite("zoo_promises", "zoo_programs")


@pytest.fixture(scope="session")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what gives the folder of a class's tiny pipeline; the folder has the class's name."""
    from zoo_pipelines import save_pipeline

    root = tmp_path_factory.mktemp("zoo")

    def folder_of(name: str) -> Path:
        folder = root / name
        return folder if folder.exists() else save_pipeline(name, folder)

    return folder_of


@pytest.fixture(scope="class")
def tiny(request: pytest.FixtureRequest, zoo_folder: Callable[[str], Path]) -> Tiny:
    """Return a pipeline of the zoo as the program loads it; its name and entry are the parameter."""
    from zoo_promises import Tiny, load

    name, entry = request.param
    folder = zoo_folder(name)
    return Tiny(name, entry, folder, load(entry, folder))
