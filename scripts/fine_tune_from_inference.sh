#!/usr/bin/env bash
# From images that the benchmark generated to a LoRA: back-fills the inputs that belong to them, then fine-tunes.
#
#     bash scripts/fine_tune_from_inference.sh
#     DATASET=emoji WEIGHTS=tiny STEPS=200 bash scripts/fine_tune_from_inference.sh
#
# DATASET is as the benchmark's (gundam); the other names, and further arguments, are those of fine_tune.sh. How many
# images are written follows from the images that lie there, of whatever data set (2,000 where there are none).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/pixart_scripts/common/places.sh"
DATASET=${DATASET:-gundam}
# The folder is called as the benchmark calls it.
name_dataset='
import sys
from benchmark.data.sources import open_dataset
from benchmark.console.plain_text import one_line
from benchmark.settings.fields import ASSETS
try:
    print(open_dataset(sys.argv[1], assets=ASSETS, seed=42).name)
except (OSError, ValueError) as error:
    print(f"fine_tune_from_inference: {one_line(error)}", file=sys.stderr)
    sys.exit(2)
'
if [ -z "${BASE_DIR:-}" ]; then
    [ -n "${DATASET_NAME:-}" ] || DATASET_NAME=$("$PYTHON_BIN" -c "$name_dataset" "$DATASET")
    BASE_DIR=$local_repo/$DATASET_NAME
fi
export BASE_DIR

"$PYTHON_BIN" "$common/back_fill_inputs.py" --dataset "$DATASET" \
    --output_dir "$(dirname "$BASE_DIR")" --name "$(basename "$BASE_DIR")"
exec bash "$common/fine_tune.sh" "$@"
