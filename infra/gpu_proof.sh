#!/usr/bin/env bash
# The proof on a GPU (benchmarks/gpu_proof.py), for a machine that can fetch nothing.
#   gpu_proof.sh pack              where there is a package index: what that machine lacks, unpacked
#                                  into .gpu_wheels/ (git-ignored), to be carried beside the checkout
#   gpu_proof.sh run [arguments]   there: at most 8 minutes; figures go to $OUT, or benchmarks/results
# That machine has PyTorch for CUDA 13, transformers, accelerate, pandas and pyarrow for Python 3.12.
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=.gpu_wheels

fail() { echo "gpu_proof: $*" >&2; exit 1; }

pack() {
  local needed=(bitsandbytes trl datasets dill multiprocess peft pydantic pydantic_core pydantic-settings python-dotenv annotated-types typing-inspection typing_extensions)
  local pinned=() python=${LOOP_PYTHON:-.venv/bin/python} name size
  for name in "${needed[@]}"; do
    pinned+=("$(grep -i "^$name==" infra/constraints-pipeline.txt)") || fail "$name is not in infra/constraints-pipeline.txt"
  done
  rm -rf "$wheels" && mkdir "$wheels"
  "$python" -m pip --disable-pip-version-check download -q --no-deps --only-binary=:all: \
    --implementation cp --python-version 3.12 --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -d "$wheels" "${pinned[@]}"
  for name in "$wheels"/*.whl; do "$python" -m zipfile -e "$name" "$wheels" && rm "$name"; done
  # The libraries for other accelerators are 120 MB.
  find "$wheels/bitsandbytes" -name 'libbitsandbytes_*.so' ! -name '*_cuda130.so' ! -name '*_cpu.so' -delete
  # The copy may come without its history; the result names the commit all the same.
  git rev-parse --short=7 HEAD >"$wheels/commit"
  size=$(du -sm "$wheels" | cut -f1)
  [ "$size" -le 40 ] || fail "$wheels has $size MB, at most 40 can be carried"
  echo "gpu_proof: $wheels has $size MB: carry it beside the checkout, there: bash infra/gpu_proof.sh run"
}

run() {
  [ -d "$wheels" ] || fail "$wheels is missing: bash infra/gpu_proof.sh pack, where there is a package index"
  # The random base takes 6 GB: memory is faster than a disk, if there is enough of it.
  local free
  free=$(df -Pm /dev/shm 2>/dev/null | awk 'NR==2 {print $4}')
  if [ "${free:-0}" -ge 24000 ]; then export TMPDIR=/dev/shm; fi
  export LOOP_BENCH_COMMIT=${LOOP_BENCH_COMMIT:-$(cat "$wheels/commit")}
  mkdir -p "${OUT:-benchmarks/results}"
  PYTHONUNBUFFERED=1 PYTHONPATH="$PWD/$wheels:$PWD" python3 -m benchmarks.gpu_proof --out "${OUT:-benchmarks/results}" "$@"
}

case "${1:-}" in
  pack) pack ;;
  run) shift && run "$@" ;;
  *) fail "pack or run?" ;;
esac
