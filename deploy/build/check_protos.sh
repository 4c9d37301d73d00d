#!/usr/bin/env bash
# Fails when the checked-in stubs are not what the .proto files generate. Usage: check_protos.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/../.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
PATH="$(dirname "$1"):$PATH" bash deploy/build/protos.sh "$1" "$fresh"
for stub in "$fresh"/protos/allsorts/v1/*; do
  diff -q "$stub" "protos/allsorts/v1/$(basename "$stub")" >/dev/null || {
    echo "protos/allsorts/v1/$(basename "$stub") is not what the .proto file generates; run: make protos"
    exit 1
  }
done
echo "stubs: up to date"
