#!/usr/bin/env bash
# The reactor as it is on systems other than Unix, where each connection is a task: the same tests, on this system.
set -euo pipefail
cd "$(dirname "$0")/.."
# In a directory of its own: the flags reach every dependency.
export RUSTFLAGS="--cfg fanfare_tasks" CARGO_TARGET_DIR=target/tasks
cargo clippy --lib --test serve --features serve -- --deny warnings
cargo clippy --lib --no-default-features --features tasks -- --deny warnings
cargo test --features serve --lib --test serve
