# Sourced by the fine-tuning scripts, which set `root` first: where things lie, and the interpreter.
# shellcheck shell=bash disable=SC2034,SC2154
common=$root/scripts/pixart_scripts/common
# Short names where they mean the same.
local_repo=local_repo
[ "$PWD" = "$root" ] || local_repo=$root/local_repo
[ "${WEIGHTS:-pretrained}" != tiny ] || local_repo=$local_repo/tiny
if [ -z "${PYTHON_BIN:-}" ]; then
    PYTHON_BIN=python3
    [ ! -x "$root/.venv/bin/python" ] || PYTHON_BIN=$root/.venv/bin/python
fi
export PYTHON_BIN
# So that an interpreter will do that has the requirements, but not this project, installed.
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
