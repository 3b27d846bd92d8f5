#!/usr/bin/env bash
# The instructions that the hot operations take, as callgrind counts them, beside benches/instructions/baseline.json. Prints
# a table; fails if one takes more than its tolerance allows. When that is meant:
#
#   cargo bench --bench instructions -- --accept
#
# and commit the baseline with what changed it. Arguments choose cases by a part of their name.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/packages.sh
need_tool valgrind

# The counts are those of the profile as it is.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS
unset CARGO_PROFILE_BENCH_LTO CARGO_PROFILE_BENCH_CODEGEN_UNITS CARGO_PROFILE_BENCH_DEBUG
cargo bench --bench instructions -- --check "$@"
