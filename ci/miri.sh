#!/usr/bin/env bash
# Looks for undefined behaviour with miri: the unit tests of the library, some of those of the reactor's shards with
# simulated sockets, and the stress tests, at the small sizes that they take under `cfg(miri)`. Unlike the models, this runs
# the real crossbeam-epoch, arc-swap and dashmap.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/nightly.sh
need_nightly miri rust-src

# Tree borrows: crossbeam-epoch finds a thread's record by the address of a field in it, which the older rules (stacked
#   borrows) refuse whoever uses it.
# Leaks are ignored: what is retired and not yet collected when the process ends is crossbeam-epoch's global garbage, which
#   nobody frees. That frames and segments are freed is what the tests that count live frames show.
export MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-ignore-leaks ${MIRIFLAGS-}"

cargo "+$nightly" miri setup
# Skipped, because of time alone: it encodes 270 KB of text, which keeps miri busy for many minutes. It has no threads.
cargo "+$nightly" miri test --target-dir target/miri --lib -- --skip segments_are_sealed_by_bytes
# Three ends of a connection; the other tests of the reactor take too long here. The reactor itself has no unsafe code: what is
# looked at is how it reads the log.
cargo "+$nightly" miri test --target-dir target/miri --features reactor --lib -- \
    a_closed_topic_ends_its_streams who_takes_no_byte too_much_input
cargo "+$nightly" miri test --target-dir target/miri --test stress -- --skip who_is_given_up
# The log of evictions has the time of day, which miri keeps from programs otherwise.
MIRIFLAGS="$MIRIFLAGS -Zmiri-disable-isolation" \
    cargo "+$nightly" miri test --target-dir target/miri --test stress who_is_given_up
# Names that are registered, replaced and dropped by several threads.
cargo "+$nightly" miri test --target-dir target/miri --test broadcaster -- counts_are_exact of_those events_are_whole
