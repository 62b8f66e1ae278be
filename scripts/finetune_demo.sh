#!/usr/bin/env bash
# The whole of fine-tuning on small data, offline: the embedded PixArt, which knows robots, learns emoji on a CPU.
#
#     PYTHON_BIN=.venv/bin/python bash scripts/finetune_demo.sh
#
# Ends with local_repo/finetune_demo/Emoji/finetune_report/finetune.md. A second call does what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON_BIN=${PYTHON_BIN:-python3}
export PYTHON_BIN WEIGHTS=tiny
. scripts/pixart_scripts/common/lora_rank.sh
export BASE_DIR=${BASE_DIR:-local_repo/finetune_demo/Emoji}
# A small network learns at rates that would break a large one; at 5e-3 some of its trainings did break down.
export BS=${BS:-8} STEPS=${STEPS:-3500} LR=${LR:-3e-3} LORA_RANK=${LORA_RANK:-24}

"$PYTHON_BIN" scripts/pixart_scripts/common/prepare_inputs.py --dataset emoji --num_samples 4200 \
    --output_dir "$(dirname "$BASE_DIR")"
# Compiled, a step takes two thirds of the time on a CPU; without a C++ compiler the trainer leaves that out by itself.
bash scripts/pixart_scripts/common/fine_tune.sh --compile --warmup_steps 50 --adam_beta2 0.99 \
    --loss_weighting min-snr --log_every 50 --validate_every 1750 --validation_guidance 3 --validation_steps 10 \
    --target_modules to_q,to_k,to_v,to_out.0,ff.net.0.proj,ff.net.2,proj_out,linear_1,linear_2,adaln_single.linear
PIXART_GUIDANCE=${PIXART_GUIDANCE:-3} "$PYTHON_BIN" scripts/finetune_report.py --base_dir "$BASE_DIR" \
    --drift_samples 64 --curve_samples 48 --training_samples 1000
