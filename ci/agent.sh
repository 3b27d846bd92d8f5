#!/usr/bin/env bash
# The official clients against the example `agent`: npm `@ag-ui/client` runs it to RUN_FINISHED, with other tabs attached of
# which one hardly reads, and resumes after an interrupt; npm `@a2a-js/sdk` and PyPI `a2a-sdk`, of v1.0 and of v0.3, stream a
# task, disconnect in the middle, resubscribe, and end with the same final task. And its page in two tabs of Chromium.
#
#   ci/agent.sh            builds with --release; PROFILE=dev for a debug build
#
# Needs cargo, node, npm, python3 with venv, chromium. Exits non-zero if any client does not get what it should. Leaves
# screenshots in target/agent*.png.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'agent.sh: %s\n' "$1" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is missing"; }
need cargo; need node; need npm; need python3; need chromium

profile=${PROFILE:-release}
cargo build --quiet --profile "$profile" --features protocols --example agent
target=${CARGO_TARGET_DIR:-target}
case $profile in dev) built=debug ;; *) built=$profile ;; esac
agent=$target/$built/examples/agent
[ -x "$agent" ] || fail "$agent was not built"

scratch=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    rm -rf "$scratch"
}
trap cleanup EXIT

packages=$target/agent-clients
mkdir -p "$packages"
cp ci/agent/* "$packages"
npm ci --silent --no-fund --no-audit --ignore-scripts --prefix "$packages" >/dev/null
# python_with VERSION: the client of that version, each in an environment of its own.
python_with() {
    local venv=$packages/venv-$1
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "a2a-sdk==$1" 'httpx>=0.28,<0.29'
}
python_with 1.3.0
python_with 0.3.26

mkfifo "$scratch/greeting"
exec 3<>"$scratch/greeting"
"$agent" --listen 127.0.0.1:0 >&3 2>"$scratch/log" &
server=$!
read -r -t 30 greeting <&3 || fail "agent did not start"
base=http://${greeting##*http://}
echo "agent: $base"

# run COMMAND...: a client, which must come to its end; the server's log is shown if it does not.
run() {
    timeout 90 "$@" || { tail -n 20 "$scratch/log" >&2; fail "failed: $*"; }
}
run node "$packages/ag-ui.mjs" "$base"
run node "$packages/a2a.mjs" "$base"
run "$packages/venv-1.3.0/bin/python" "$packages/a2a_1_0.py" "$base"
run "$packages/venv-0.3.26/bin/python" "$packages/a2a_0_3.py" "$base"
mkdir -p target
run node "$packages/page.mjs" "$base" "$(command -v chromium)" "$scratch/profile" "$PWD/target/agent"
for shot in agent agent-asks agent-dark agent-phone; do
    [ -s "target/$shot.png" ] || fail "there is no screenshot target/$shot.png"
done

status=0
kill -TERM "$server"
wait "$server" || status=$?
server=
[ "$status" -eq 0 ] || fail "agent exited with $status"
if grep -q -e ERROR -e panicked "$scratch/log"; then
    cat "$scratch/log" >&2
    fail "agent complained"
fi
echo "agent.sh: all clients got what they should; screenshots in target/agent*.png"
