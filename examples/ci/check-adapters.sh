#!/usr/bin/env bash
# Compiles the documents that changed, checks every lock, and asks each adapter its questions.
# Usage: check-adapters.sh DOCS QUESTIONS ADAPTERS SHARE
# DOCS/manual.pdf becomes ADAPTERS/manual.lora and is asked what QUESTIONS/manual.jsonl asks.
# Exit code 1: a document does not compile, a lock has drifted, or an adapter answers less than SHARE.
set -euo pipefail
shopt -s failglob
docs=$1 questions=$2 adapters=$3 share=$4

check() {
  local document=$1 adapter=$2 asked=$3
  d2l compile "$document" -o "$adapter" || return
  d2l compile "$document" -o "$adapter" --locked > /dev/null || return
  if [[ -e $asked ]]; then
    d2l probe "$adapter" --qa "$asked" --at-least "$share"
  fi
}

failed=()
for document in "$docs"/*; do
  name=$(basename "${document%.*}")
  check "$document" "$adapters/$name.lora" "$questions/$name.jsonl" || failed+=("$name")
done
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
