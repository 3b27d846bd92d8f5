#!/usr/bin/env bash
# Independent SSE clients against the example `live`: curl, npm `eventsource`, PyPI `httpx-sse`. Each connects,
# receives a published event, loses its connection, and resumes by Last-Event-ID without a gap or a repeat. All of that
# over both engines: axum, and the reactor.
#
#   ci/clients.sh            builds with --release; PROFILE=dev for a debug build
#
# Needs cargo, curl, node, npm and python3 with venv. Exits non-zero if any client does not get what it should.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'clients.sh: %s\n' "$1" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is missing"; }
need cargo; need curl; need node; need npm; need python3

profile=${PROFILE:-release}
cargo build --quiet --profile "$profile" --features serve --example live
target=${CARGO_TARGET_DIR:-target}
case $profile in dev) built=debug ;; *) built=$profile ;; esac
live=$target/$built/examples/live
[ -x "$live" ] || fail "$live was not built"

scratch=$(mktemp -d)
pids=()
cleanup() {
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap cleanup EXIT

# Starts the server with the given options; sets $server and $base.
start() {
    local greeting
    rm -f "$scratch/greeting"
    mkfifo "$scratch/greeting"
    exec 3<>"$scratch/greeting"
    "$live" --listen 127.0.0.1:0 "$@" >&3 &
    server=$!
    pids+=("$server")
    read -r -t 30 greeting <&3 || fail "live did not start"
    base=http://${greeting##*http://}
    echo "live $*: $base"
}

publish() { curl -sS --fail -d "$2" "$base/publish/$1" >/dev/null || fail "publishing to $1 failed"; }

# ---- curl ----------------------------------------------------------------------------------------------------------

# Reads lines of a stream until one is exactly $1. Lines seen go to $lines.
lines=
until_line() {
    local line
    while IFS= read -r -t 20 line <&4; do
        lines+=$line$'\n'
        if [ "$line" = "$1" ]; then return; fi
    done
    fail "curl never saw '$1'; it saw: $lines"
}
# Opens a stream of $1 on descriptor 4; the head of the answer has arrived when this returns.
stream() {
    rm -f "$scratch/stream"
    mkfifo "$scratch/stream"
    exec 4<>"$scratch/stream"
    curl -sS -N -i --fail "${@:2}" "$base/events/$1" >&4 &
    curl_pid=$!
    pids+=("$curl_pid")
    lines=
    until_line $'\r'
}
with_curl() {
    local id seen
    stream curl
    publish curl one
    until_line 'data: one'
    id=$(sed -n 's/^id: //p' <<<"$lines" | tail -n 1)
    [ -n "$id" ] || fail "the event had no id"
    kill "$curl_pid"
    exec 4<&-
    publish curl two
    publish curl three
    stream curl -H "Last-Event-ID: $id"
    publish curl four
    until_line 'data: four'
    seen=$(sed -n 's/^data: //p' <<<"$lines" | tr '\n' ' ')
    [ "$seen" = "two three four " ] || fail "curl resumed with '$seen'"
    kill "$curl_pid"
    exec 4<&-
    echo "  curl: received, resumed"
}

# ---- npm eventsource -----------------------------------------------------------------------------------------------

npm install --silent --no-fund --no-audit --prefix "$scratch" eventsource@4 >/dev/null
cat >"$scratch/client.mjs" <<'CLIENT'
// The client reconnects by itself: a relay between it and the server cuts the first connection.
import net from "node:net";
import { EventSource } from "eventsource";

const base = new URL(process.argv[2]);
const publish = async (body, query = "") => {
  const response = await fetch(new URL(`/publish/node${query}`, base), { method: "POST", body });
  if (!response.ok) throw new Error(await response.text());
};
const cut = [];
const relay = net.createServer((client) => {
  const server = net.connect(Number(base.port), base.hostname);
  cut.push(() => { client.destroy(); server.destroy(); });
  client.on("error", () => server.destroy()).pipe(server).on("error", () => client.destroy()).pipe(client);
});
await new Promise((listening) => relay.listen(0, "127.0.0.1", listening));

const seen = [];
let opened = 0;
const source = new EventSource(`http://127.0.0.1:${relay.address().port}/events/node`);
const done = new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`timeout; seen ${JSON.stringify(seen)}`)), 30_000).unref();
  source.onopen = async () => {
    opened += 1;
    try {
      if (opened === 1) await publish("one\nline more");
      else await publish("four", "?event=tick");
    } catch (error) { reject(error); }
  };
  const take = async (event) => {
    seen.push([event.type, event.data]);
    try {
      if (event.data === "one\nline more") {
        cut[0]();
        await publish("two");
        await publish("three");
      }
    } catch (error) { reject(error); }
    if (event.type === "tick") resolve();
  };
  source.onmessage = take;
  for (const name of ["tick", "lag"]) source.addEventListener(name, take);
});
await done;
const wanted = [["message", "one\nline more"], ["message", "two"], ["message", "three"], ["tick", "four"]];
if (JSON.stringify(seen) !== JSON.stringify(wanted) || opened !== 2) throw new Error(`opened ${opened} times, saw ${JSON.stringify(seen)}`);
source.close();
relay.close();
cut.forEach((end) => end());
CLIENT
with_node() {
    timeout 60 node "$scratch/client.mjs" "$base" || fail "the npm eventsource client failed"
    echo "  npm eventsource: received, reconnected by itself, resumed"
}

# ---- Python httpx-sse ----------------------------------------------------------------------------------------------

python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check 'httpx>=0.28,<0.29' 'httpx-sse>=0.4,<0.5'
cat >"$scratch/client.py" <<'CLIENT'
import json
import sys

import httpx
from httpx_sse import connect_sse

base = sys.argv[1]


def events(source):
    """httpx-sse also hands out blocks without data, such as `retry`, which fire no event by the standard."""
    source.response.raise_for_status()
    return (event for event in source.iter_sse() if event.data)


with httpx.Client(timeout=20, trust_env=False) as client:

    def publish(value, **query):
        answer = client.post(f"{base}/publish/python", json=value, params=query)
        answer.raise_for_status()
        return answer.json()

    with connect_sse(client, "GET", f"{base}/events/python") as source:
        received = events(source)
        receipt = publish({"n": 1}, event="tick")
        event = next(received)
        assert (event.event, json.loads(event.data)) == ("tick", {"n": 1}), event
        assert event.id == receipt["id"] and receipt["subscribers"] == 1, (event, receipt)

    publish({"n": 2})
    publish({"n": 3})
    with connect_sse(client, "GET", f"{base}/events/python", headers={"Last-Event-ID": event.id}) as source:
        received = events(source)
        publish({"n": 4})
        seen = [json.loads(next(received).data)["n"] for _ in range(3)]
        assert seen == [2, 3, 4], seen
CLIENT
with_python() {
    timeout 60 "$scratch/venv/bin/python" "$scratch/client.py" "$base" || fail "the Python httpx-sse client failed"
    echo "  Python httpx-sse: received, resumed"
}

# ---- the end -------------------------------------------------------------------------------------------------------

the_end() {
    local status
    stream machine
    kill -TERM "$server"
    status=0
    wait "$server" || status=$?
    [ "$status" -eq 0 ] || fail "live exited with $status"
    status=0
    wait "$curl_pid" || status=$?
    [ "$status" -eq 0 ] || fail "the server's end broke curl's stream off: curl exited with $status"
    exec 4<&-
    echo "  the server's end was clean"
}

for options in "" --reactor; do
    # shellcheck disable=SC2086 # none, or one
    start $options
    with_curl
    with_node
    with_python
    the_end
done
echo "clients.sh: every client received and resumed over both engines"
