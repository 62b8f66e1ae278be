"""Generates with the PixArt that was fine-tuned on WikiArt, from the captions of the held-out paintings.

    python scripts/pixart_scripts/wikiart/infer_finetuned_on_wikiart.py --use_meta --num_samples 100 --cfg 4.0

More in scripts/pixart_scripts/common/infer_finetuned.py, whose flags these are.
"""

from __future__ import annotations

import functools

from benchmark.console.interruption import exit_status_of, leave
from scripts.pixart_scripts.common.infer_finetuned import main

if __name__ == "__main__":
    program = functools.partial(main, base_dir="local_repo/WikiArt")
    leave(exit_status_of(program, "infer_finetuned", "stopped; run the same command to resume"))
