#!/usr/bin/env bash
# Builds llama-cpp-python for this machine and installs it, with visible progress: `allsorts engine install llama.cpp`
# as this checkout has it. Usage: llama.sh PYTHON. More CMake options go into ALLSORTS_CMAKE_ARGS.
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/../.."
exec "$python" -m workers.cli.engine install llama.cpp
