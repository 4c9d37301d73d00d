#!/usr/bin/env bash
# Builds and installs llama-cpp-python from its source distribution (it has no wheels), with visible progress.
# Usage: llama.sh PYTHON. Extra CMake flags go into ALLSORTS_CMAKE_ARGS, e.g. -DGGML_CUDA=ON on a GPU node.
set -euo pipefail
python=$1
here=$(cd "$(dirname "$0")" && pwd)
lock=$here/../../requirements/llama.lock
flags="-DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF -DGGML_NATIVE=ON -DCMAKE_PROJECT_INCLUDE=$here/llama_trim.cmake"
if [ "$(uname -s)" = Darwin ]; then flags="$flags -DGGML_METAL=ON"; fi
started=$SECONDS
echo "llama.cpp: building (about 3 to 5 minutes on two cores; seconds when it was built here before)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export CMAKE_ARGS="$flags ${ALLSORTS_CMAKE_ARGS:-}"
if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
"$python" -m pip install --disable-pip-version-check -v --require-hashes -r "$lock" 2>&1 | tee "$log" | while IFS= read -r line; do
  case $line in
    *\[*/*\]*)
      step=$(sed -E 's/.*\[([0-9]+\/[0-9]+)\].*/\1/' <<<"$line")
      printf '\rllama.cpp: compiled %s (%d s) ' "$step" $((SECONDS - started)) ;;
  esac
done || { echo; tail -n 30 "$log"; echo "llama.cpp: the build failed; a C++ compiler and CMake are needed (Debian: apt-get install g++ cmake)"; exit 1; }
printf '\rllama.cpp: installed after %d s          \n' $((SECONDS - started))
