"""The zoo: a tiny pipeline of each class of diffusers that makes images of text, with random weights.

Configurations are written here and nothing is downloaded. `ENTRIES` says how each is called, `ZOO` builds it,
`save_pipeline` writes its folder as save_pretrained lays it out, tokenizers and all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import zoo_diffusion_transformers
import zoo_flow
import zoo_gemma
import zoo_glm
import zoo_llama
import zoo_older
import zoo_pixels
import zoo_priors
import zoo_prx
import zoo_qwen
import zoo_qwen3
import zoo_qwen3_vl
import zoo_stable_diffusion
from zoo_deprecated import publish_index
from zoo_entries import Entry

ENTRIES: dict[str, Entry] = {
    **zoo_stable_diffusion.ENTRIES,
    **zoo_flow.ENTRIES,
    **zoo_diffusion_transformers.ENTRIES,
    **zoo_priors.ENTRIES,
    **zoo_pixels.ENTRIES,
    **zoo_older.ENTRIES,
    **zoo_qwen3_vl.ENTRIES,
    **zoo_qwen3.ENTRIES,
    **zoo_qwen.ENTRIES,
    **zoo_llama.ENTRIES,
    **zoo_glm.ENTRIES,
    **zoo_gemma.ENTRIES,
    **zoo_prx.ENTRIES,
}
ZOO: dict[str, Callable[[], Any]] = {name: entry.build for name, entry in ENTRIES.items()}


def save_pipeline(name: str, folder: Path) -> Path:
    """Write the tiny pipeline of a class to `folder`, as such pipelines are published, and return that."""
    pipeline = ZOO[name]()
    pipeline.save_pretrained(folder)
    publish_index(pipeline, folder)
    return folder
