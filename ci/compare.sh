#!/usr/bin/env bash
# The example `compare`, small: every question is answered, the JSON and the chart are well-formed and complete, the
# memory figures are plausible, and bad input is refused with 2 before anything runs. Figures are not the point here.
#
#   ci/compare.sh            builds with --release; PROFILE=dev for a debug build
#
# Needs cargo and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'compare.sh: %s\n' "$1" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is missing"; }
need cargo; need python3

profile=${PROFILE:-release}
cargo build --quiet --profile "$profile" --example compare
target=${CARGO_TARGET_DIR:-target}
case $profile in dev) built=debug ;; *) built=$profile ;; esac
compare=$target/$built/examples/compare
[ -x "$compare" ] || fail "$compare was not built"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$compare" --quick --rounds 3 --subscribers 2,30,300 --bursts 1,16 --topics 1_000 --publishers 3 --parked 300 \
    --json "$scratch/all.json" --svg "$scratch/chart.svg" >"$scratch/tables" || fail "the run failed"

python3 - "$scratch" <<'PYTHON'
import json, pathlib, sys
import xml.etree.ElementTree as xml

scratch = pathlib.Path(sys.argv[1])
report = json.loads((scratch / "all.json").read_text())
for field in ("cpu", "cores", "system", "rustc", "commit"):
    assert report["machine"][field], field
assert report["settings"]["subscribers"] == [2, 30, 300], report["settings"]

tables = report["tables"]
cells = {}
for table in tables:
    cells.setdefault(table["question"], []).append(table)
counts = {question: len(tables) for question, tables in cells.items()}
assert counts == {"fan-out": 6, "shards": 2, "users": 1, "churn": 1, "publish": 1, "memory": 6}, counts
engines = ["fanfare", "tokio broadcast", "async-broadcast", "vec of mpsc", "dashmap of mpsc", "rwlock of maps"]
for question in ("fan-out", "churn", "publish"):
    for table in cells[question]:
        assert [row["engine"] for row in table["rows"]] == engines, table["title"]
for table in tables:
    for index, row in enumerate(table["rows"]):
        value, ratio = row["value"], row["ratio"]
        assert 0 < value["least"] <= value["median"] <= value["most"], row
        assert row["rounds"] >= 1 and (ratio is None) == (index == 0), row
        assert index == 0 or 0 < ratio["least"] <= ratio["median"] <= ratio["most"], row
for table in cells["memory"]:
    by_engine = {row["engine"]: row["value"]["median"] for row in table["rows"]}
    assert 20 < by_engine["fanfare"] < 10_000, table
    assert by_engine["dashmap of mpsc"] > 200, table

chart = xml.parse(scratch / "chart.svg")
texts = " ".join(chart.getroot().itertext())
for text in ["single events", "bursts of 16", "subscribers", "nanoseconds per delivery", "commit", *engines]:
    assert text in texts, f"the chart does not say {text!r}"
printed = (scratch / "tables").read_text()
for table in tables:
    assert table["title"] in printed, table["title"]
PYTHON

# refused MESSAGE ARGUMENT...: ends with 2 and says why, and nothing was measured.
refused() {
    local message=$1 status=0
    shift
    "$compare" "$@" >"$scratch/out" 2>"$scratch/err" || status=$?
    [ "$status" -eq 2 ] || fail "$*: ended with $status, not with 2"
    grep -qF -e "$message" "$scratch/err" || fail "$*: said $(cat "$scratch/err")"
    [ ! -s "$scratch/out" ] || fail "$*: measured something"
}
refused 'it must be 1 to 1,000,000' --subscribers 0
refused 'it must be 1 to 1,000,000' --subscribers 10,1000001
refused 'not a number' --subscribers many
refused 'it must be 1 to 512' --bursts 513
refused 'it must be 1,000 to 1,000,000' --topics 1
refused 'it must be 1 to 64' --publishers 0
refused 'it must be 1 to 1,000' --rounds 0
refused 'possible values' --only nothing
refused 'cannot be written' --json "$scratch/no/such/directory.json"
refused 'cannot be written' --svg "$scratch"
refused 'a file each' --json "$scratch/same" --svg "$scratch/same"
refused 'add it to --only' --only users --svg "$scratch/chart.svg"
# A million subscribers of six engines take about 8 GiB, and a fifth of what is free is left alone.
if [ -r /proc/meminfo ] && [ "$(awk '/^MemAvailable/ { print int($2 / 1024 / 1024) }' /proc/meminfo)" -lt 9 ]; then
    refused 'use a lower --subscribers' --subscribers 1_000_000
fi

# A reader of the tables that goes away is an error, not a panic.
status=0
"$compare" --only churn --rounds 1 2>"$scratch/err" >&- || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 1 ] || fail "without stdout it ended with $status"
if grep -q panicked "$scratch/err"; then fail "it panicked without stdout: $(cat "$scratch/err")"; fi

echo "compare: tables, JSON, chart and refusals are as they should be"
