#!/usr/bin/env bash
# Build images of this checkout: images/build.sh ROLE... Settings of the environment: REGISTRY, TAG, BASE (another base
# image), SOURCE (where the source is, for the label), pip's PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and PIP_TRUSTED_HOST, and
# BUILD_ARGS, more flags of `docker build`.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' hqclip/__init__.py)
revision=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
read -ra more <<<"${BUILD_ARGS:-}"
for role in "$@"; do
  arguments=(--build-arg "ROLE=$role" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
  if [[ $role == annotate ]]; then
    arguments+=(--build-arg "PACKAGES=gcc=4:12.* libc6-dev=2.36-*")
  fi
  for name in BASE SOURCE PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
    if [[ -n ${!name:-} ]]; then arguments+=(--build-arg "$name"); fi
  done
  docker build "${more[@]}" "${arguments[@]}" -f images/Dockerfile -t "${REGISTRY:-hqclip}/$role:${TAG:-$version}" .
done
