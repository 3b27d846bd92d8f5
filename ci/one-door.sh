#!/usr/bin/env bash
# src/sync.rs is the one door to shared memory: no other file names std's atomics, locks or threads, or loom, and only
# src/sync/ and src/registry.rs know that the map is a DashMap.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
refuse() {
    local what=$1 pattern=$2 except=$3 found
    found=$(grep -rnE "$pattern" src --include='*.rs' | grep -vE "^src/($except)" | grep -vE '^[^:]+:[0-9]+: *//' || true)
    if [ -n "$found" ]; then
        printf '%s named outside its file:\n%s\n' "$what" "$found"
        status=1
    fi
}
refuse 'std atomics, locks or threads' 'std::sync::|std::thread|parking_lot' 'sync\.rs|sync/'
refuse 'loom' '\bloom::' 'sync\.rs|sync/'
refuse 'DashMap or arc-swap' 'dashmap::|DashMap<|arc_swap::' 'sync\.rs|sync/'
refuse 'crossbeam-epoch' 'crossbeam_epoch::' 'sync\.rs|sync/'
exit $status
