# Sourced by the fine-tuning scripts: LORA_RANK, the LoRA's rank, where it was given under its former name RANK.
# shellcheck shell=bash
# A launcher counts its processes in WORLD_SIZE, and RANK is then the number of a process.
if [ -z "${LORA_RANK:-}" ] && [ -n "${RANK:-}" ] && [ -z "${WORLD_SIZE:-}${LOCAL_RANK:-}" ]; then
    echo "$(basename "$0" .sh): RANK=$RANK sets the rank of the LoRA; write LORA_RANK=$RANK instead," \
        "since launchers use RANK for the number of a process" >&2
    export LORA_RANK=$RANK
fi
