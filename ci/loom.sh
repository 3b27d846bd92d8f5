#!/usr/bin/env bash
# Runs every model, and lints the models and the crate as the models see it.
# Fails if a model fails, and also if none ran: a green and empty run proves nothing.
# Arguments go to cargo, for example: ci/loom.sh --test close
set -euo pipefail
cd "$(dirname "$0")/.."

# They would replace the cfg that the alias gives.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS

cargo clippy --package loom-tests --all-targets --target-dir target/loom \
    --config 'build.rustflags = ["--cfg", "fanfare_loom"]' -- --deny warnings

report=target/loom/report.txt
mkdir -p target/loom
cargo loom "$@" -- --nocapture 2>&1 | tee "$report"

ran=$(grep -cE '\b[1-9][0-9]* interleavings' "$report" || true)
if [ "$ran" -eq 0 ]; then
    echo "loom: no model says how many interleavings it ran" >&2
    exit 1
fi
echo "loom: $ran models ran"
