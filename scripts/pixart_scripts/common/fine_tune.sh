#!/usr/bin/env bash
# The one sequence of fine-tuning: metadata of the images -> environment check -> combined base -> LoRA training.
#
#     BASE_DIR=local_repo/WikiArt BS=8 STEPS=2000 bash scripts/pixart_scripts/common/fine_tune.sh
#
# PYTHON_BIN        the interpreter: the repository's .venv/bin/python if there, else python3
# DATASET_NAME      folder under local_repo (local_repo/tiny with WEIGHTS=tiny): Gundam
# BASE_DIR          the data set's folder, whose input/train holds the captioned images: local_repo/DATASET_NAME
# OUTPUT_DIR        the LoRA's folder: BASE_DIR/pixart_lora
# COMBINED_BASE     the folder that training starts from: local_repo/pixart_base
# BS STEPS LR       images a step, steps and learning rate: 4, 1000, 1e-4
# LORA_RANK         the LoRA's rank: 16
# VALIDATION_PROMPT prompts, by |: the first captions of input/test
# NUM_PROCESSES     one for each GPU; PORT (29500) is where several meet
# WEIGHTS           pretrained, or tiny for the embedded model
# INSTALL           1: let the environment check install what is missing
#
# Further arguments go to train_lora.py. Each step that is done already is left as it is, so that the same command goes
# on where it was stopped. Exit status: that of the step that failed; 2 where there are no images.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
. "$root/scripts/pixart_scripts/common/places.sh"
. "$common/lora_rank.sh"
DATASET_NAME=${DATASET_NAME:-Gundam}
BASE_DIR=${BASE_DIR:-$local_repo/$DATASET_NAME}
output_dir=${OUTPUT_DIR:-$BASE_DIR/pixart_lora}
# To the benchmark, OUTPUT_DIR is where its images lie.
unset OUTPUT_DIR
export COMBINED_BASE=${COMBINED_BASE:-$local_repo/pixart_base}
train_dir=$BASE_DIR/input/train
test_dir=$BASE_DIR/input/test

has_files() { # folder, then name patterns
    local folder=$1 tests=() pattern
    shift
    for pattern in "$@"; do tests+=(-o -iname "$pattern"); done
    [ -d "$folder" ] && [ -n "$(find -L "$folder" -maxdepth 1 -type f ! -name '.*' \( "${tests[@]:1}" \) -print | head -n 1)" ]
}

has_images() {
    has_files "$1" '*.png' '*.jpg' '*.jpeg' '*.webp' '*.bmp' '*.gif' '*.tif' '*.tiff'
}

if ! has_images "$train_dir"; then
    case $(basename "$BASE_DIR") in
        WikiArt) prepare="scripts/pixart_scripts/wikiart/prepare_inputs_from_dataset.py" ;;
        Gundam | Emoji | Robots)
            prepare="scripts/pixart_scripts/common/prepare_inputs.py --dataset $(basename "$BASE_DIR" | tr '[:upper:]' '[:lower:]')" ;;
        *) prepare="scripts/pixart_scripts/common/prepare_inputs.py --dataset NAME" ;;
    esac
    echo "fine_tune: no images in $train_dir: write them with $PYTHON_BIN $prepare" \
        "--output_dir '$(dirname "$BASE_DIR")' --name '$(basename "$BASE_DIR")'" >&2
    exit 2
fi

for folder in "$train_dir" "$test_dir"; do
    has_images "$folder" || continue
    # A table that came with the images, without captions beside them, is the captions' only place.
    if has_files "$folder" metadata.jsonl metadata.csv && ! has_files "$folder" '*.txt'; then continue; fi
    "$PYTHON_BIN" "$common/make_imagefolder_metadata.py" --input_dir "$folder"
done
"$PYTHON_BIN" "$common/check_environment.py"
"$PYTHON_BIN" "$common/build_combined_base.py"

gpus=$("$PYTHON_BIN" -c 'import torch; print(torch.cuda.device_count())')
processes=${NUM_PROCESSES:-$gpus}
case $processes in
    *[!0-9]*) echo "fine_tune: NUM_PROCESSES=$processes: expected a number of processes" >&2; exit 2 ;;
esac
launch=("$PYTHON_BIN")
if [ "$processes" -gt 1 ] && [ "$gpus" -gt 0 ]; then
    launch+=(-m accelerate.commands.launch --multi_gpu --num_processes "$processes" --num_machines 1)
    launch+=(--mixed_precision no --dynamo_backend no --main_process_port "${PORT:-29500}")
elif [ "$processes" -gt 1 ]; then
    # accelerate's launcher starts a single process where it is told --cpu.
    launch+=(-m torch.distributed.run --nproc_per_node "$processes" --master_port "${PORT:-29500}")
fi
arguments=(--train_dir "$train_dir" --test_dir "$test_dir" --base "$COMBINED_BASE" --output_dir "$output_dir")
arguments+=(--batch_size "${BS:-4}" --steps "${STEPS:-1000}" --learning_rate "${LR:-1e-4}" --rank "${LORA_RANK:-16}")
[ -z "${VALIDATION_PROMPT:-}" ] || arguments+=(--validation_prompt "$VALIDATION_PROMPT")
exec "${launch[@]}" "$common/train_lora.py" "${arguments[@]}" "$@"
