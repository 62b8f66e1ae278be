#!/usr/bin/env bash
# Fine-tunes on local_repo/Gundam (prepare_inputs.py --dataset gundam writes it); names and arguments: see fine_tune.sh.
set -euo pipefail
DATASET_NAME=Gundam exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/fine_tune.sh" "$@"
