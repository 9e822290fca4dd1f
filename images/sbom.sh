#!/usr/bin/env bash
# What Python packages an image holds, as CycloneDX JSON: images/sbom.sh IMAGE FILE. Wants cyclonedx-py (cyclonedx-bom).
set -euo pipefail
image=$1 file=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# the names and licences of its packages, without the packages, in an environment that can be looked at here
python3 -m venv --without-pip "$folder"
docker run --rm --network none "$image" sh -c 'cd /opt/hqclip/lib/python3*/site-packages && tar -c ./*.dist-info' |
  tar -x -C "$folder"/lib/python3*/site-packages
mkdir -p "$(dirname "$file")"
cyclonedx-py environment --output-reproducible --output-format JSON --output-file "$file" "$folder/bin/python"
