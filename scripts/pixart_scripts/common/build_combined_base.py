"""Builds the folder that fine-tuning starts from: PixArt-Sigma's transformer with its VAE, T5 and tokenizer.

    python scripts/pixart_scripts/common/build_combined_base.py
    WEIGHTS=tiny python scripts/pixart_scripts/common/build_combined_base.py

Sources are PIXART_MODEL and PIXART_BASE (hub ids or folders), with WEIGHTS=tiny the embedded model; the result is
COMBINED_BASE. Weights are hard links where possible. Built once: a second call only says so, and other sources are
refused. Exit status 2 where it cannot be built.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line, visible
from benchmark.settings.fields import ASSETS
from finetuning.base import combined_base
from finetuning.combined_base import build_combined_base
from models.pixart import HUB_BASE, HUB_MODELS


def main(given: Sequence[str] | None = None) -> int:
    """Build the folder; return the exit status."""
    weights = os.environ.get("WEIGHTS") or "pretrained"
    if weights not in ("pretrained", "tiny"):
        print(f"build_combined_base: WEIGHTS={weights} has no files: use pretrained or tiny", file=sys.stderr)
        return 2
    tiny = weights == "tiny"
    embedded = str(ASSETS / "pixart")
    model = embedded if tiny else os.environ.get("PIXART_MODEL") or HUB_MODELS[512]
    base = embedded if tiny else os.environ.get("PIXART_BASE") or HUB_BASE
    parser = argparse.ArgumentParser(description="Build one PixArt-Sigma folder.", allow_abbrev=False)
    parser.add_argument("--model", default=model, help="transformer, or a whole pipeline (PIXART_MODEL) [%(default)s]")
    parser.add_argument("--base", default=base, help="VAE, T5, tokenizer, scheduler (PIXART_BASE) [%(default)s]")
    parser.add_argument(
        "--output_dir", type=Path, default=combined_base(weights), help="the folder (COMBINED_BASE) [%(default)s]"
    )
    options = parser.parse_args(given)
    try:
        # The embedded VAE is shared, and lies in a folder of its own.
        vae = ASSETS / "vae" if tiny and options.base == embedded else None
        combined = build_combined_base(options.model, options.base, options.output_dir.expanduser(), vae)
    except (OSError, ValueError) as error:
        print(f"build_combined_base: {one_line(error)}", file=sys.stderr)
        return 2
    for note in combined.notes:
        print(visible(f"{combined.folder}: {note}"))
    print(visible(f"{combined.folder}: {'built' if combined.built else 'complete already, nothing to do'}"))
    return 0


if __name__ == "__main__":
    leave(exit_status_of(main, "build_combined_base", "stopped; run the same command to start again"))
