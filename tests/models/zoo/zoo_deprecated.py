"""Networks of classes that diffusers has moved to pipelines/deprecated: how published folders name them.

model_index.json says ["wuerstchen", "PaellaVQModel"], of the module diffusers.pipelines.wuerstchen as it was. diffusers
0.42 neither finds that nor what its own save_pretrained writes, ["diffusers", "PaellaVQModel"].
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

INDEX = "model_index.json"


def publish_index(pipeline: Any, folder: Path) -> None:
    """Let the folder's index name the components of moved modules as published folders do."""
    import diffusers

    index = json.loads((folder / INDEX).read_text())
    for name, component in pipeline.components.items():
        if component is not None and index[name][0] == "diffusers" and not hasattr(diffusers, index[name][1]):
            index[name][0] = type(component).__module__.split(".")[-2]
    (folder / INDEX).write_text(json.dumps(index, indent=2))


@contextmanager
def published_modules(folder: Path) -> Iterator[None]:
    """Let diffusers find the moved modules that a folder's index names, as it did when the folder was published."""
    import diffusers

    index = json.loads((folder / INDEX).read_text())
    moved = {
        value[0]
        for value in index.values()
        if isinstance(value, list)
        and isinstance(value[0], str)
        and value[0] not in ("diffusers", "transformers")
        and not hasattr(diffusers.pipelines, value[0])
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in moved:
            module = importlib.import_module(f"diffusers.pipelines.deprecated.{name}")
            patch.setattr(diffusers.pipelines, name, module, raising=False)
        if ["transformers", "T5GemmaEncoder"] in index.values():
            # diffusers gives it to a transformers that is loaded only in part, and replaced after that.
            prx = importlib.import_module("diffusers.pipelines.prx")
            patch.setattr(sys.modules["transformers"], "T5GemmaEncoder", prx.T5GemmaEncoder, raising=False)
        yield
