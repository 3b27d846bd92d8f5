#!/usr/bin/env bash
# Runs many seeds of the simulator, two processes beside each other, and checks that its faults can still be put in.
# Fails if a seed fails, or if fewer ran than were asked for. FANFARE_SEEDS=a..b chooses others.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=${FANFARE_SEEDS:-0..6000}
first=${seeds%..*}
end=${seeds#*..}
if [ "$end" -le "$first" ]; then
    echo "chaos: no seeds in $seeds" >&2
    exit 1
fi
middle=$(((first + end) / 2))

unset FANFARE_SEED
# Unoptimized: with every debug assertion of the engine, and what the other tests have built anyway.
cargo test --features _simulate --test chaos --test chaos_limits --no-run

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# The second world has had enough of a third of the seeds.
part() {
    local first=${2%..*} end=${2#*..}
    FANFARE_SEEDS=$2 cargo test --quiet --features _simulate --test chaos >"$scratch/$1" 2>&1 &&
        FANFARE_SEEDS=$first..$((first + (end - first + 2) / 3)) \
            cargo test --quiet --features _simulate --test chaos_limits >"$scratch/$1-limits" 2>&1
}
failed=0
part low "$first..$middle" &
low=$!
part high "$middle..$end" || failed=1
wait "$low" || failed=1
ran=$(sed -nE 's/^.*chaos: ([0-9]+) seeds passed$/\1/p' "$scratch"/* | awk '{ sum += $1 } END { print sum + 0 }')
wanted=$((end - first + (middle - first + 2) / 3 + (end - middle + 2) / 3))
if [ "$failed" -ne 0 ] || [ "$ran" -ne "$wanted" ]; then
    cat "$scratch"/* >&2
    echo "chaos: $ran of $wanted seeds passed" >&2
    exit 1
fi
echo "chaos: $ran seeds passed"
tests/chaos/faults.sh --sites
