#!/usr/bin/env bash
# Builds and installs llama-cpp-python from its source distribution (it has no wheels), with visible progress.
# Usage: llama.sh PYTHON. Extra CMake flags go into ALLSORTS_CMAKE_ARGS, e.g. -DGGML_CUDA=ON on a GPU node.
# The wheel is kept in the user's cache under a key of all that went into it: source, flags, compiler, Python and
# processor. pip's own cache knows the source alone, and would hand out a build for another processor.
set -euo pipefail
python=$1
here=$(cd "$(dirname "$0")" && pwd)
lock=$here/../../requirements/llama.lock
flags="-DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF -DGGML_NATIVE=ON"
if [ "$(uname -s)" = Darwin ]; then flags="$flags -DGGML_METAL=ON"; fi
flags="$flags ${ALLSORTS_CMAKE_ARGS:-}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk -v ours="$work/ours.txt" -v rest="$work/rest.txt" '
  /^[A-Za-z0-9]/ { to = ($0 ~ /^llama-cpp-python==/) ? ours : rest }
  to { print > to }' "$lock"

processor() {
  if [ -r /proc/cpuinfo ]; then grep -m1 -E '^(flags|Features)' /proc/cpuinfo; else sysctl -n machdep.cpu.brand_string; fi
}
compiler() { "${CXX:-c++}" --version 2>/dev/null | head -n 1 || true; }
key=$({ cat "$work/ours.txt" "$here/llama_trim.cmake"; echo "$flags"; uname -sm; processor; compiler
        "$python" -c 'import sys; print(sys.implementation.cache_tag)'; } | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')
kept=${ALLSORTS_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/allsorts/wheels}/llama-$key

started=$SECONDS
if ! ls "$kept"/llama_cpp_python-*.whl >/dev/null 2>&1; then
  echo "llama.cpp: building (about 2 to 5 minutes on two cores; seconds once it was built here)"
  export CMAKE_ARGS="$flags -DCMAKE_PROJECT_INCLUDE=$here/llama_trim.cmake"
  if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  "$python" -m pip wheel --disable-pip-version-check -v --no-cache-dir --no-deps --require-hashes \
    --wheel-dir "$work/wheel" -r "$work/ours.txt" 2>&1 | tee "$work/log" | while IFS= read -r line; do
    case $line in
      \[*/*\]*|*\ \[*/*\]*)
        step=$(sed -E 's/.*\[([0-9]+\/[0-9]+)\].*/\1/' <<<"$line")
        printf '\rllama.cpp: compiled %s (%d s) ' "$step" $((SECONDS - started)) ;;
    esac
  done || { echo; tail -n 30 "$work/log"; echo "llama.cpp: the build failed; a C++ compiler and CMake are needed (Debian: apt-get install g++ cmake)"; exit 1; }
  mkdir -p "$kept"
  mv "$work"/wheel/llama_cpp_python-*.whl "$kept/"
fi
"$python" -m pip install --disable-pip-version-check --quiet --require-hashes -r "$work/rest.txt"
"$python" -m pip install --disable-pip-version-check --quiet --no-deps --force-reinstall "$kept"/llama_cpp_python-*.whl
printf '\rllama.cpp: installed after %d s          \n' $((SECONDS - started))
