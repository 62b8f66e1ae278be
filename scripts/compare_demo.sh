#!/usr/bin/env bash
# The gate of benchmark.compare on small data, offline: two equal runs pass it, a planted regression fails it.
#
#     PYTHON_BIN=.venv/bin/python bash scripts/compare_demo.sh
#
# The regression that is planted is a real one: to save time, the third run of PixArt's embedded model takes one step
# instead of ten. Exit status: 0 where the gate exits with 0 on the equal runs and with 1 on the planted regression, else
# 1. The runs stay in local_repo/compare_demo; a second call times nothing again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON_BIN=${PYTHON_BIN:-python3}
BASE_DIR=${BASE_DIR:-local_repo/compare_demo}
mkdir -p "$BASE_DIR"

benchmark() { # NAME STEPS
    echo "Benchmark: $1 run, PIXART_STEPS=$2" >&2
    env WEIGHTS=tiny MODELS=pixart PIXART_STEPS="$2" DATASET=robots NUM_SAMPLES=32 NUM_REFERENCES=500 METRICS=kid \
        ROUNDS=3 TIMED_SAMPLES=8 PASSES=none SEED=42 "$PYTHON_BIN" run_inference.py --output-dir "$BASE_DIR/$1" \
        > "$BASE_DIR/$1.txt"
}

gate() { # NAME EXPECTED
    local status=0
    echo
    echo "\$ python -m benchmark.compare $BASE_DIR/old $BASE_DIR/$1 --slower 10%"
    "$PYTHON_BIN" -m benchmark.compare "$BASE_DIR/old" "$BASE_DIR/$1" --slower 10% || status=$?
    if [ "$status" -ne "$2" ]; then
        echo "compare_demo.sh: the gate exited with $status on the $1 run, and should with $2" >&2
        missed=1
    fi
}

missed=0
benchmark old 10
benchmark equal 10
benchmark worse 1
gate equal 0
gate worse 1
exit "$missed"
