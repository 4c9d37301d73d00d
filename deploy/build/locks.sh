#!/usr/bin/env bash
# Writes one lock per role into requirements/: pins and hashes, no addresses. Run by `make locks`.
# All roles but vllm, whose torch and transformers want versions of their own, are resolved together first, so that any of them can share an environment.
# Pins that stand are kept, so that a new package brings itself alone; `make locks ARGS=--upgrade` takes the newest of everything.
set -euo pipefail
cd "$(dirname "$0")/../.."
compile() { # compile OUTPUT [pip-compile arguments]
  local output=$1; shift
  python -m piptools compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
    --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-header --no-annotate \
    --output-file "$output" "$@"
  echo "wrote $output: $(grep -c '==' "$output") packages"
}
together=$(mktemp -d)
trap 'rm -rf "$together"' EXIT
case "${1:-}" in
  --upgrade) sed -i -n '/^#/p' requirements/{base,router,llama,loadtest,dev,vllm,peers,clients}.lock ;;
  "") sed -nE 's/^([A-Za-z0-9_.-]+==[^ ;]+).*/\1/p' requirements/{base,router,llama,loadtest,dev}.lock | sort -u > "$together/all.txt" ;;
  *) echo "locks.sh: $1 is not an argument of it; --upgrade is" >&2; exit 2 ;;
esac
python -m piptools compile -q --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links \
  --no-emit-options --no-header --no-annotate --extra router --extra llama --extra loadtest --extra dev \
  --output-file "$together/all.txt" pyproject.toml
compile requirements/base.lock pyproject.toml -c "$together/all.txt"
for role in router llama loadtest dev; do
  compile "requirements/$role.lock" --extra "$role" pyproject.toml -c "$together/all.txt"
done
compile requirements/vllm.lock requirements/vllm.in pyproject.toml
compile requirements/peers.lock requirements/peers.in
compile requirements/clients.lock requirements/clients.in
