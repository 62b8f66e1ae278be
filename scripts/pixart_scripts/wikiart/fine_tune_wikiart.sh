#!/usr/bin/env bash
# Fine-tunes on local_repo/WikiArt (prepare_inputs_from_dataset.py writes it); names and arguments: see fine_tune.sh.
set -euo pipefail
DATASET_NAME=WikiArt exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/fine_tune.sh" "$@"
