#!/usr/bin/env bash
# Trains every embedded model on one GPU, those that do not need each other side by side.
#
#   MINUTES=9.5 STAGE=1 OUT=runs/out bash scripts/embedded/train_all.sh    attribute networks, then VAE and VQVAE
#   MINUTES=9.5 STAGE=2 OUT=runs/out bash scripts/embedded/train_all.sh    SDXL, PixArt and VAR, given stage 1's models
#   MINUTES=12  OUT=runs/out bash scripts/embedded/train_all.sh            both of them
#   MINUTES=9.5 STAGE=infinity OUT=...      Infinity's tokenizer, then Infinity, given the text encoder of PixArt
#   MINUTES=9.5 STAGE=var_infinity OUT=...  the same with VAR beside it: on the second GPU where there are two
#
# MINUTES is the wall time of the call. The models lie in assets/, and as tar files of it in OUT, with the logs.
# TINY=1 runs each script for a few steps on whatever device there is. PYTHON names the interpreter.
set -u
cd "$(dirname "$0")/../.."
STAGE=${STAGE:-all} MINUTES=${MINUTES:-12} PYTHON=${PYTHON:-python3} TINY=${TINY:-0} SEED=${SEED:-0}
ASSETS=${ASSETS:-assets} OUT=${OUT:-runs} EXTRA=${EXTRA:-} # EXTRA: "--compile" for SDXL and PixArt
LOGS=$OUT/logs LOSSES=${LOSSES:-runs/losses}
mkdir -p "$LOGS" "$LOSSES"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export HF_HUB_OFFLINE=1 # everything is here: nothing may wait for a network
failed=0

share() { # share NUMBER OF THE WHOLE, LESS ITS OVERHEAD IN MINUTES: loading libraries, judging, tar
  awk -v whole="$MINUTES" -v part="$1" -v over="$2" 'BEGIN { m = (whole - over) * part; print (m > 0.05 ? m : 0.05) }'
}
start() { # start NAME MODULE ARGUMENTS...: in the background, with its own log
  local name=$1 module=$2
  shift 2
  local tiny=""
  [ "$TINY" = 1 ] && tiny=--tiny
  $PYTHON -m "scripts.embedded.$module" "$@" --seed "$SEED" --assets "$ASSETS" $tiny >"$LOGS/$name.log" 2>&1 &
}
finish() { # finish NAME PID: wait, and say how it ended
  if wait "$2"; then
    echo "$1: $(grep -v '%|' "$LOGS/$1.log" | tail -n 1)"
  else
    echo "$1 FAILED:" && tail -n 15 "$LOGS/$1.log"
    failed=1
  fi
}

train_networks() { # MINUTES
  start judge train_attributes judge --minutes "$1" && local judge=$!
  start losses train_attributes losses --minutes "$1" --output "$LOSSES" && local losses=$!
  finish judge $judge
  finish losses $losses
}
train_diffusion() { # MINUTES
  start sdxl train_sdxl --minutes "$1" $EXTRA && local sdxl=$!
  start pixart train_pixart --minutes "$1" $EXTRA && local pixart=$!
  finish sdxl $sdxl
  finish pixart $pixart
}
train_infinity() { # MINUTES
  local minutes=$1
  start bsq_vae train_bsq_vae --minutes "$(awk -v m="$minutes" 'BEGIN { print 0.44 * m }')"
  finish bsq_vae $!
  start infinity train_infinity --minutes "$(awk -v m="$minutes" 'BEGIN { print 0.56 * m }')"
  finish infinity $!
}
second_gpu() { # the number of the GPU for what runs beside the main work: the second one, or else the first
  [ "$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')" -ge 2 ] && echo 1 || echo 0
}

case $STAGE in
1)
  train_networks "$(share 0.13 1.3)"
  start vae train_vae --minutes "$(share 0.8 1.3)" --losses "$LOSSES" && vae=$!
  start vqvae train_vqvae --minutes "$(share 0.8 1.3)" && vqvae=$!
  finish vae $vae
  finish vqvae $vqvae
  ;;
2)
  start var train_var --minutes "$(share 0.97 1.2)" && var=$!
  train_diffusion "$(share 0.97 1.2)"
  finish var $var
  ;;
all)
  train_networks "$(share 0.09 2.2)"
  (
    start vqvae train_vqvae --minutes "$(share 0.4 2.2)" && vqvae=$!
    finish vqvae $vqvae
    start var train_var --minutes "$(share 0.48 2.2)" && var=$!
    finish var $var
    exit $failed
  ) &
  second_chain=$!
  start vae train_vae --minutes "$(share 0.28 2.2)" --losses "$LOSSES" && vae=$!
  finish vae $vae
  train_diffusion "$(share 0.6 2.2)"
  wait $second_chain || failed=1
  ;;
infinity)
  train_infinity "$(share 1 1.5)"
  ;;
var_infinity)
  CUDA_VISIBLE_DEVICES=$(second_gpu) start var train_var --minutes "$(share 1 1)" && var=$!
  train_infinity "$(share 1 1.5)"
  finish var $var
  ;;
*)
  echo "STAGE=$STAGE: expected 1, 2, all, infinity or var_infinity" >&2
  exit 2
  ;;
esac

case $STAGE in
1) models="" ;;
infinity) models="infinity" ;;
var_infinity) models="var infinity" ;;
*) models="sdxl pixart var" ;;
esac
case $STAGE in 1 | all) tar -cf "$OUT/stage1.tar" -C "$ASSETS" attributes vae var/vqvae ;; esac
for model in $models; do tar -cf "$OUT/$model.tar" -C "$ASSETS" "$model"; done
tar -czf "$OUT/logs.tar.gz" -C "$OUT" logs && rm -r "$LOGS"
ls -l "$OUT"
exit $failed
