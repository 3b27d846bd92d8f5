#!/usr/bin/env bash
# The page of the example `live` in a real browser: headless Chromium, driven by puppeteer-core.
#
#   ci/browser.sh            builds with --release; PROFILE=dev for a debug build
#
# Runs over both engines: axum, and the reactor. Needs cargo, node and npm; installs Debian's chromium if there is none (as
# root). Leaves screenshots in target/live.png, target/live-dark.png and target/live-phone.png, and the same as
# target/live-reactor*.png. Fails if the page does not show what it should.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'browser.sh: %s\n' "$1" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is missing"; }
need cargo; need curl; need node; need npm

if ! command -v chromium >/dev/null; then
    need apt-get
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
fi
chromium=$(command -v chromium) || fail "chromium could not be installed"

profile=${PROFILE:-release}
cargo build --quiet --profile "$profile" --features serve --example live
target=${CARGO_TARGET_DIR:-target}
case $profile in dev) built=debug ;; *) built=$profile ;; esac
live=$target/$built/examples/live
[ -x "$live" ] || fail "$live was not built"

scratch=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    rm -rf "$scratch"
}
trap cleanup EXIT

npm install --silent --no-fund --no-audit --prefix "$scratch" puppeteer-core@24 >/dev/null

cat >"$scratch/drive.mjs" <<'DRIVE'
import { execFileSync } from "node:child_process";
import puppeteer from "puppeteer-core";

const [base, chromium, profile, shots, engine] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
  const strangers = [];
  page.on("request", (request) => { if (!request.url().startsWith(base) && !request.url().startsWith("data:")) strangers.push(request.url()); });

  /** Waits until `condition` holds in the page, and names it when it never does. */
  async function see(what, condition, ...args) {
    try {
      await page.waitForFunction(condition, { polling: 50 }, ...args);
      console.log(`  ${what}`);
    } catch (error) {
      const text = await page.evaluate(() => document.body.innerText);
      throw new Error(`never seen: ${what} (${error.message})\n${text}`);
    }
  }
  const curl = (...args) => execFileSync("curl", ["-sS", "--fail", ...args], { encoding: "utf8" });
  const row = (text) => [...document.querySelectorAll("#log .data")].some((cell) => cell.textContent === text);
  const number = (id, least) => Number(document.getElementById(id).textContent.replaceAll(",", "")) >= least;

  await page.setViewport({ width: 1320, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  await page.goto(base, { waitUntil: "domcontentloaded" });

  await see("connected", () => document.getElementById("state").textContent === "Connected");
  const said = engine === "reactor" ? "Streams on the reactor: " : "Streams are tasks (axum).";
  await see(`the page says what serves it: ${said}`, (text) => document.getElementById("engine").textContent.startsWith(text), said);
  await see("the demo topic speaks", () => [...document.querySelectorAll("#log .name")].some((name) => name.textContent === "fanfare"));

  curl("-d", "hello from curl", `${base}/publish/machine`);
  await see("an event published by curl", row, "hello from curl");
  curl("-H", "Content-Type: application/json", "-d", '{"n":[1,2,{"x":null}]}', `${base}/publish/machine?event=count`);
  await see("a named event with JSON", row, '{"n":[1,2,{"x":null}]}');
  curl("--data-binary", "two\nlines", `${base}/publish/machine`);
  await see("a text of two lines", row, "two\nlines");
  const forged = '<img src="/stats" onerror="document.title=1"><b>bold</b>';
  curl("--data-raw", forged, `${base}/publish/machine`);
  await see("markup shown as text", row, forged);
  if (await page.$("#log img, #log b")) throw new Error("an event became markup");

  await page.click("#more");
  await page.click("#more");
  await see("three connections, all open", () => document.querySelectorAll('#conns li[data-state="open"]').length === 3);
  await see("three subscribers on the tile", number, "t-subscribers", 3);

  await page.type("#name", "greeting");
  await page.click("#send");
  await see("what the form published, back over the stream", () =>
    document.querySelector("#log li.mine .name")?.textContent === "greeting" && /back here .* ms/.test(document.getElementById("said").textContent));
  await page.$eval("#data", (data) => { data.value = "{"; });
  await page.click("#send");
  await see("broken JSON refused with the server's reason", () =>
    document.getElementById("said").classList.contains("bad") && document.getElementById("said").textContent.startsWith("the body is not JSON"));
  // The refusal above is a 400, which the browser's console reports.
  complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("400 (Bad Request)")));
  await page.$eval("#data", (data) => { data.value = '{"hello":"from this page"}'; });
  await page.click("#burst");
  await see("a burst of a hundred", () => document.getElementById("said").textContent.startsWith("100 events in"));

  const points = (chart, least) => [...document.querySelectorAll(`#${chart} path.stroke`)]
    .every((path) => path.getAttribute("d").split(/[ML]/).length - 1 >= least);
  await see("the rate chart has data", points, "chart-rate", 10);
  await see("the subscriber chart has data", points, "chart-subs", 10);
  await see("the rate chart shows the burst", () =>
    [...document.querySelectorAll("#chart-rate text")].some((text) => Number(text.textContent) >= 50));
  await see("the hub works", () => document.getElementById("s-health").dataset.ok === "true"
    && document.getElementById("s-health").textContent.startsWith("works"));
  await see("what the hub counts", number, "s-subscribed", 3);
  await see("who is behind", () => document.querySelectorAll("#s-behind li").length >= 1);
  await see("the topic is in the picker", () => [...document.querySelectorAll("#topic-list button")].some((b) => b.dataset.topic === "machine"));

  await page.screenshot({ path: `${shots}.png`, fullPage: true });

  await page.click("#drop");
  await see("disconnected", () => document.getElementById("state").dataset.state === "closed");
  curl("-d", "published while the page was away", `${base}/publish/machine`);
  await see("reconnected", () => document.getElementById("p-reconnects").textContent === "1");
  await see("what it missed", row, "published while the page was away");
  const [missing, repeated] = await page.$$eval("#p-gaps, #p-repeats", (found) => found.map((element) => element.textContent));
  if (missing !== "0" || repeated !== "0") throw new Error(`after resuming: ${missing} missing, ${repeated} repeated`);
  console.log("  nothing missing, nothing repeated");

  await page.type("#watch-topic", "another topic/é");
  await page.keyboard.press("Enter");
  await see("another topic watched", () => document.getElementById("watched").textContent === "another topic/é"
    && document.getElementById("state").dataset.state === "open");
  curl("-d", "elsewhere", `${base}/publish/another%20topic%2F%C3%A9`);
  await see("an event of the other topic", row, "elsewhere");
  await page.click('#topic-list button[data-topic="machine"]');
  await see("the demo topic again", () => document.querySelectorAll("#log .id").length > 2);

  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  await page.screenshot({ path: `${shots}-dark.png`, fullPage: true });
  await page.setViewport({ width: 360, height: 780 });
  await see("the chart follows a narrow window", () => document.querySelector("#chart-rate svg").clientWidth < 340);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > 360) throw new Error(`the page is ${wide} pixels wide in a window of 360`);
  await page.screenshot({ path: `${shots}-phone.png`, fullPage: true });

  if (strangers.length) throw new Error(`the page asked others: ${strangers}`);
  if (complaints.length) throw new Error(`the console has errors: ${complaints.join("; ")}`);
} finally {
  await browser.close();
}
DRIVE
mkdir -p target

# check ENGINE SHOTS OPTION...: the page, served with these options; screenshots begin with target/SHOTS.
check() {
    local engine=$1 shots=$2 greeting base status=0
    shift 2
    rm -f "$scratch/greeting"
    mkfifo "$scratch/greeting"
    exec 3<>"$scratch/greeting"
    "$live" --listen 127.0.0.1:0 "$@" >&3 &
    server=$!
    read -r -t 30 greeting <&3 || fail "live did not start"
    base=http://${greeting##*http://}
    echo "live $*: $base"

    timeout 180 node "$scratch/drive.mjs" "$base" "$chromium" "$scratch/profile-$engine" "$PWD/target/$shots" "$engine" ||
        fail "the page does not do what it should ($engine)"
    [ -s "target/$shots.png" ] || fail "there is no screenshot"

    kill -TERM "$server"
    wait "$server" || status=$?
    server=
    [ "$status" -eq 0 ] || fail "live exited with $status ($engine)"
}

check axum live
check reactor live-reactor --reactor
echo "browser.sh: all seen; target/live.png, target/live-reactor.png"
