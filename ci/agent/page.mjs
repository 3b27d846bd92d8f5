// The example's page in a real browser, in two tabs: headless Chromium, driven by puppeteer-core.
//
//   node page.mjs http://127.0.0.1:PORT CHROMIUM PROFILE SHOTS      leaves SHOTS.png, SHOTS-dark.png and SHOTS-phone.png
import puppeteer from "puppeteer-core";

const [base, chromium, profile, shots] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

try {
  const complaints = [];
  const strangers = [];

  /** A tab of the user's. `see` waits until a condition holds in it, and names it when it never does. */
  async function tab(name) {
    const page = await browser.newPage();
    page.setDefaultTimeout(30_000);
    page.on("pageerror", (error) => complaints.push(`${name}: ${error.message}`));
    page.on("console", (message) => { if (message.type() === "error") complaints.push(`${name}: ${message.text()}`); });
    page.on("request", (request) => { if (!request.url().startsWith(base) && !request.url().startsWith("data:")) strangers.push(request.url()); });
    await page.setViewport({ width: 1320, height: 900 });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
    await page.goto(`${base}/?user=ada&pace=15`, { waitUntil: "domcontentloaded" });
    page.see = async (what, condition, ...args) => {
      try {
        await page.waitForFunction(condition, { polling: 50 }, ...args);
        console.log(`  ${name}: ${what}`);
      } catch (error) {
        const text = await page.evaluate(() => document.body.innerText);
        throw new Error(`${name} never saw: ${what} (${error.message})\n${text}`);
      }
    };
    await page.see("connected", () => document.getElementById("state").textContent === "Connected");
    return page;
  }
  const first = await tab("first tab");
  const second = await tab("second tab");
  const both = async (...see) => { for (const page of [first, second]) await page.see(...see); };
  const ask = (page, prompt) => page.$eval("#prompt", (area, text) => { area.value = text; }, prompt);
  // A tab that is not in front is not painted, but hears everything; what it shows is looked at in its document.
  const state = (rows, wanted) => {
    const states = [...document.querySelectorAll("#talk .state")].map((cell) => cell.textContent);
    return states.length === rows && states[0] === wanted;
  };
  const counts = (page) => page.$$eval("#streams .end", (cells) => cells.map((cell) => cell.textContent).join(" "));

  await first.see("both page views", () => document.querySelectorAll("#log-analytics .data").length >= 2);
  await first.bringToFront();
  const forged = '<img src="/stats" onerror="document.title=1"><b>bold</b>';
  await ask(first, forged);
  await first.click("#run");
  await both("a run over AG-UI, from its beginning to its end", state, 1, "finished");
  await both("markup shown as text", (text) => document.querySelector("#talk .text").textContent.includes(text), forged);
  for (const page of [first, second]) {
    if (await page.$("#talk b, #talk img, #streams img")) throw new Error("an event became markup");
  }

  await second.bringToFront();
  await ask(second, "the tides");
  await second.click("#send");
  await both("a task over A2A, asked for in the second tab", state, 2, "completed");

  await ask(second, "interrupt: delete the draft");
  await second.click("#run");
  await both("the question of an interrupted run", () => !document.getElementById("asks").hidden
    && document.getElementById("question").textContent === "Delete draft.txt?");
  await first.bringToFront();
  await first.screenshot({ path: `${shots}-asks.png`, fullPage: true });
  await first.click("#yes");
  await both("its end, answered in the first tab", state, 4, "finished");
  await both("no question any more", () => document.getElementById("asks").hidden);
  await both("what it did", () => document.querySelector("#talk .text").textContent === "Done: draft.txt is gone.");

  // The second tab came later: it did not see the first one's page view.
  const shown = await Promise.all([first, second].map(counts));
  const [left, right] = shown.map((text) => text.split(" ").map(Number));
  if (left[0] !== right[0] || left[1] !== right[1] || left[0] < 40) throw new Error(`the tabs show ${shown.join(" and ")} events`);
  // Connected and a snapshot of the contexts, and then three contexts, one of them twice.
  if (left[2] !== 2 + left[0] + left[1] + 4 || left[2] !== right[2]) throw new Error(`the context streams have ${left[2]} and ${right[2]} events`);
  console.log(`  both tabs: ${shown[0]} events of AG-UI, A2A, context and analytics`);

  await first.screenshot({ path: `${shots}.png`, fullPage: true });
  await first.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  await first.screenshot({ path: `${shots}-dark.png`, fullPage: true });
  await first.setViewport({ width: 360, height: 780 });
  const wide = await first.evaluate(() => document.documentElement.scrollWidth);
  if (wide > 360) throw new Error(`the page is ${wide} pixels wide in a window of 360`);
  await first.screenshot({ path: `${shots}-phone.png`, fullPage: true });

  if (strangers.length) throw new Error(`the page asked others: ${strangers}`);
  if (complaints.length) throw new Error(`the console has errors: ${complaints.join("; ")}`);
} finally {
  await browser.close();
}
