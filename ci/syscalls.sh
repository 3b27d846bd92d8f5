#!/usr/bin/env bash
# The system calls of the reactor's deliveries, as strace counts them. `cargo test` runs the same test where strace happens
# to be there; here it has to be.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/packages.sh
need_tool strace

FANFARE_STRACE=required cargo test --features reactor --test syscalls -- --nocapture
