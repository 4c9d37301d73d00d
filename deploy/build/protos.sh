#!/usr/bin/env bash
# Generates the stubs of protos/allsorts/v1 below a folder. Usage: protos.sh PYTHON OUTPUT_FOLDER
set -euo pipefail
cd "$(dirname "$0")/../.."
"$1" -m grpc_tools.protoc -I . --python_out="$2" --grpc_python_out="$2" \
  --mypy_out=quiet:"$2" --mypy_grpc_out=quiet:"$2" protos/allsorts/v1/*.proto
