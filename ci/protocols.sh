#!/usr/bin/env bash
# The protocols' own packages check what fanfare's types write: the schemas of npm `@ag-ui/core` every AG-UI event, the
# clients of npm `@a2a-js/sdk` every A2A response in both versions.
#
#   ci/protocols.sh
#
# Needs cargo, node and npm. Exits non-zero if anything is refused, or means something else there.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'protocols.sh: %s\n' "$1" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is missing"; }
need cargo; need node; need npm

target=${CARGO_TARGET_DIR:-target}
written=$target/tmp/protocols
rm -rf "$written"
cargo test --quiet --features protocols --test protocol written::

packages=$target/protocols
mkdir -p "$packages"
cp ci/protocols/package.json ci/protocols/package-lock.json ci/protocols/check.mjs "$packages"
npm ci --silent --no-fund --no-audit --prefix "$packages" >/dev/null
node "$packages/check.mjs" "$written"
