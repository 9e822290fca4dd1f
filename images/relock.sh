#!/usr/bin/env bash
# Renew the locks from pyproject.toml and the constraints: images/relock.sh [ROLE...]. Pins that still fit are kept;
# UPGRADE=1 looks for newer ones where no constraint speaks. Hashes are those of the files on PyPI; `uv` finds them.
set -euo pipefail
cd "$(dirname "$0")/.."
compile=(uv --no-config pip compile --quiet --generate-hashes --no-annotate --no-header
  --no-python-downloads --only-binary :all: --python-version 3.11 --python-platform x86_64-manylinux_2_36)
[[ -n ${UPGRADE:-} ]] && compile+=(--upgrade)

role() {
  local lock=images/$1/requirements.lock
  case $1 in
    base) "${compile[@]}" --extra gcs --extra s3 --extra hub -c constraints.txt -o "$lock" pyproject.toml ;;
    launch) "${compile[@]}" --extra gcs --extra s3 --extra launch -c constraints.txt -o "$lock" pyproject.toml ;;
    train) "${compile[@]}" --extra gcs --extra s3 --extra train -c constraints.txt -o "$lock" pyproject.toml ;;
    demo) "${compile[@]}" --extra gcs --extra s3 --extra train --extra annotate -c constraints.txt -o "$lock" pyproject.toml ;;
    annotate) # vLLM for GPUs: what its build for CPUs is tested with, but for two packages that it pins otherwise
      "${compile[@]}" --extra gcs --extra s3 --extra vllm -o "$lock" pyproject.toml \
        -c <(grep -v -E '^(triton|apache-tvm-ffi)==' constraints-vllm.txt) ;;
    *) echo "relock.sh: no role $1; one of base, launch, train, annotate, demo" >&2 && exit 64 ;;
  esac
}

[[ $# -gt 0 ]] || set -- base launch train annotate demo
for name in "$@"; do role "$name"; done
grep '^kfp==' constraints.txt | "${compile[@]}" --no-deps -o images/kfp.lock -
echo hatchling | "${compile[@]}" -c constraints.txt -o images/build.lock -
