// The official client of AG-UI, @ag-ui/client, against the example agent.
//
//   node ag-ui.mjs http://127.0.0.1:PORT
import { spawn } from "node:child_process";
import { deepStrictEqual as same, ok, rejects } from "node:assert/strict";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

import { HttpAgent, buildResumeArray } from "@ag-ui/client";
import { post, read } from "./sse.mjs";

const base = process.argv[2];
const say = (what) => console.log(`  ${what}`);
const agentOf = (user, threadId, pace) =>
  new HttpAgent({ url: `${base}/agent?user=${user}&pace=${pace}`, threadId });

/** Runs, and gives the events as the client hands them to the application. */
async function run(agent, prompt, parameters) {
  const events = [];
  if (prompt) agent.addMessage({ id: crypto.randomUUID(), role: "user", content: prompt });
  await agent.runAgent(parameters, { onEvent: ({ event }) => void events.push(event) });
  return events;
}
const types = (events) => events.map((event) => event.type);
const textOf = (events) => events.filter((event) => event.type === "TEXT_MESSAGE_CONTENT").map((event) => event.delta).join("");

/** A run has to fail; the client's own complaint on the console is expected. */
async function fails(running, error) {
  const complain = console.error;
  console.error = () => {};
  try {
    await rejects(running, error);
  } finally {
    console.error = complain;
  }
}

// ---- one run

{
  const agent = agentOf("one", "thread-one", 2);
  const events = await run(agent, "hello");
  same(types(events)[0], "RUN_STARTED");
  same(types(events).at(-1), "RUN_FINISHED");
  for (const type of ["REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS", "TOOL_CALL_RESULT", "STATE_SNAPSHOT", "STATE_DELTA", "TEXT_MESSAGE_CONTENT"]) {
    ok(types(events).includes(type), `no ${type}`);
  }
  same(agent.messages.map((message) => message.role), ["user", "reasoning", "assistant", "tool", "assistant"]);
  same(agent.messages.at(-1).content, textOf(events));
  same(JSON.parse(agent.messages[2].toolCalls[0].function.arguments), { query: "hello" });
  same(agent.state, { steps: ["looked up", "answered"], progress: 1 });
  // The same thread goes on.
  same(types(await run(agent, "and again")).at(-1), "RUN_FINISHED");
  say(`HttpAgent: a run of ${events.length} events to RUN_FINISHED, and another one in its thread`);
}

// ---- tabs, of which one is slow

{
  const user = "tabs";
  const slow = spawn("python3", [fileURLToPath(new URL("slow.py", import.meta.url)), new URL(base).port, `/users/${user}/ag-ui?connection=slow`], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  const exited = new Promise((resolve) => slow.on("exit", resolve));
  const slowBody = text(slow.stdout);
  same(await text(slow.stderr), "");

  // So much that it does not fit into what lies between a server and a client: from here on that tab hangs.
  const before = [];
  for (let filled = 0; filled < 8; filled++) {
    const messages = [{ id: "m", role: "user", content: "write 5000 words" }];
    const filler = await read(`${base}/agent?user=${user}&pace=0`, post({ threadId: "thread-filler", runId: crypto.randomUUID(), messages }));
    await filler.ended;
    same(types(filler.events).at(-1), "RUN_FINISHED");
    before.push(...filler.events);
  }

  const bare = await read(`${base}/users/${user}/ag-ui?connection=bare`);
  const context = await read(`${base}/users/${user}/context?connection=context`);
  const runId = crypto.randomUUID();
  const first = run(agentOf(user, "thread-tabs", 1), "write 2000 words", { runId });
  // A second tab that comes in the middle posts the same run: it gets it from its beginning.
  await bare.until("the middle of the run", (events) => textOf(events).length > 2000);
  const second = run(agentOf(user, "thread-tabs", 1), undefined, { runId });
  const [one, two] = await Promise.all([first, second]);
  const finished = (events) => events.some((event) => (event.event ?? event).type === "RUN_FINISHED");
  await bare.until("the end of the run", finished);
  await context.until("the end of the run", finished);

  const wanted = bare.events;
  same(textOf(wanted).trim().split(/ /).length, 2000);
  same(types(wanted).at(-1), "RUN_FINISHED");
  same(one, wanted);
  same(two, wanted);
  same(context.events.filter((event) => event.protocol === "agui").map((event) => event.event), wanted);
  bare.close();
  context.close();

  // The slow one was let go with a notice, and what it got until then is in order and without a hole.
  slow.stdin.end();
  const blocks = (await slowBody).split("\n\n").filter(Boolean);
  same(await exited, 0);
  const got = blocks.filter((block) => block.startsWith("data: ")).map((block) => JSON.parse(block.slice(6)));
  const all = [...before, ...wanted];
  same(got, all.slice(0, got.length));
  ok(got.length < all.length, "the slow tab was not slow");
  ok(/^: lag/.test(blocks.at(-1)), `the slow tab's end was ${blocks.at(-1)}`);
  say(`two HttpAgents and two streams got the same ${wanted.length} events; a tab that hardly reads got the first ${got.length} of ${all.length} and a notice`);

  // A run that is over is there to be read again.
  same(await run(agentOf(user, "thread-tabs", 1), undefined, { runId }), wanted);
  say("HttpAgent: a run that is over, from its beginning");
}

// ---- interrupt and resume

for (const approved of [true, false]) {
  const thread = crypto.randomUUID();
  const agent = agentOf("asked", thread, 2);
  const asked = await run(agent, "interrupt me");
  same(asked.at(-1).outcome.type, "interrupt");
  same(agent.pendingInterrupts.length, 1);
  const [interrupt] = agent.pendingInterrupts;
  // Neither this client nor the server goes on without an answer.
  await fails(run(agent, "never mind"), /pending interrupt/);
  await fails(run(agentOf("asked", thread, 2), "never mind"), /409/);
  agent.messages.pop();

  const resume = buildResumeArray([interrupt], { [interrupt.id]: { status: "resolved", payload: { approved } } });
  const resumed = await run(agent, undefined, { resume });
  same(resumed.at(-1).type, "RUN_FINISHED");
  ok(/is gone/.test(textOf(resumed)) === approved, textOf(resumed));
  same(agent.pendingInterrupts, []);
  ok(agent.messages.some((message) => message.role === "tool" && message.toolCallId === interrupt.toolCallId));
  // It is answered: a second answer has nothing to go to.
  const late = agentOf("asked", thread, 2);
  await fails(run(late, undefined, { resume }), /409/);
}
say("HttpAgent: interrupted, resumed with yes, resumed with no");
