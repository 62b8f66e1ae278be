"""Writes a sample of WikiArt in equal shares of its styles, for fine-tuning: local_repo/WikiArt/input/{train,test}.

    python scripts/pixart_scripts/wikiart/prepare_inputs_from_dataset.py --num_samples 2000 --seed 42
    WIKIART_DATASET=/data/wikiart python scripts/pixart_scripts/wikiart/prepare_inputs_from_dataset.py

Reads huggan/wikiart from the hub, or what WIKIART_DATASET or --dataset name: a local folder of parquet shards in its
layout, or another hub id. More in scripts/pixart_scripts/common/prepare_inputs.py, whose flags these are.
"""

from __future__ import annotations

import functools
import os

from benchmark.console.interruption import exit_status_of, leave
from scripts.pixart_scripts.common.prepare_inputs import main

if __name__ == "__main__":
    dataset = os.environ.get("WIKIART_DATASET") or "wikiart"
    program = functools.partial(main, dataset=dataset, name="WikiArt", stratify=True)
    leave(exit_status_of(program, "prepare_inputs", "stopped; run the same command to resume"))
