#!/usr/bin/env bash
# Runs the stress tests, those of the reactor and those of the typed layer under ThreadSanitizer, with the real
# crossbeam-epoch, arc-swap and dashmap. std is built with the sanitizer as well: without that, what is synchronised inside
# std looks like a race.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/nightly.sh

target=x86_64-unknown-linux-gnu
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "tsan: this script is for Linux on x86-64" >&2
    exit 1
fi
need_nightly rust-src

# ThreadSanitizer does not see fences. crossbeam-epoch has a form without them, which its build script chooses by this
# flag; what is left is in the suppressions, with reasons. Since a target is named, build scripts are not sanitized.
export RUSTFLAGS="-Zsanitizer=thread"
# A reactor that is shut down from one of its own threads keeps that thread's handle: not a leak to report.
export TSAN_OPTIONS="halt_on_error=1 report_thread_leaks=0 suppressions='$PWD/ci/tsan-suppressions.txt' ${TSAN_OPTIONS-}"
# Five times the events of a plain run: the longer the sanitizer looks, the more it sees.
export FANFARE_STRESS=${FANFARE_STRESS:-5}
cargo "+$nightly" test -Zbuild-std --target "$target" --target-dir target/tsan --profile tsan --features reactor \
    --test stress --test reactor \
    --test broadcaster --test router --test snapshot --test interest --test endings "$@"
