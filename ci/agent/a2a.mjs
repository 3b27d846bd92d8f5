// The official JavaScript client of A2A, @a2a-js/sdk, against the example agent: in v1.0 and in v0.3.
//
//   node a2a.mjs http://127.0.0.1:PORT
import { deepStrictEqual as same, ok, rejects } from "node:assert/strict";

import { ClientFactory, DefaultAgentCardResolver, JsonRpcTransportFactory } from "@a2a-js/sdk/client";

const base = process.argv[2];
const WORKING = 2;
const COMPLETED = 3;
const legacyCompat = { enabled: true };

/** A client that speaks `version`, by the agent's own card. */
async function clientOf(version) {
  const resolver = new DefaultAgentCardResolver({ legacyCompat });
  const card = await resolver.resolve(base, ".well-known/agent-card.json?user=js&pace=40");
  const supportedInterfaces = card.supportedInterfaces.filter((one) => one.protocolVersion === version);
  same(supportedInterfaces.length, 1);
  const transports = [new JsonRpcTransportFactory({ legacyCompat })];
  return new ClientFactory({ transports, cardResolver: resolver }).createFromAgentCard({ ...card, supportedInterfaces });
}

const asking = (text) => ({
  tenant: "",
  message: {
    messageId: crypto.randomUUID(), contextId: "", taskId: "", role: 1, metadata: {}, extensions: [], referenceTaskIds: [],
    parts: [{ content: { $case: "text", value: text }, metadata: {}, filename: "", mediaType: "" }],
  },
  configuration: undefined,
  metadata: {},
});

/** What a client makes of a task that it hears of. */
function fold(task, { $case, value }) {
  switch ($case) {
    case "task": return structuredClone(value);
    case "statusUpdate":
      if (task.status.message) task.history.push(task.status.message);
      task.status = value.status;
      return task;
    case "artifactUpdate": {
      const known = task.artifacts.findIndex((one) => one.artifactId === value.artifact.artifactId);
      if (known < 0) task.artifacts.push(structuredClone(value.artifact));
      else if (value.append) task.artifacts[known].parts.push(...value.artifact.parts);
      else task.artifacts[known] = structuredClone(value.artifact);
      return task;
    }
    default: throw new Error(`a ${$case} in the stream of a task`);
  }
}

async function collect(stream, into = []) {
  for await (const { payload } of stream) into.push(payload);
  return into;
}

for (const version of ["1.0", "0.3"]) {
  const client = await clientOf(version);
  same(client.protocolVersion.slice(0, 3), version);

  // One that is cut in the middle, while another one stays from the beginning to the end.
  const cut = [];
  let staying;
  for await (const { payload } of client.sendMessageStream(asking("the tides"))) {
    if (cut.push(payload) === 1) staying = collect(client.resubscribeTask({ id: payload.value.id, tenant: "" }));
    if (cut.filter((one) => one.$case === "artifactUpdate").length === 3) break;
  }
  same(cut[0].$case, "task");
  const id = cut[0].value.id;
  same((await client.getTask({ id, tenant: "", historyLength: undefined })).status.state, WORKING);

  // Back again: the task as it stands, and the rest.
  const rest = await collect(client.resubscribeTask({ id, tenant: "" }));
  same(rest[0].$case, "task");
  ok(rest[0].value.artifacts[0].parts.length >= 3, "the task as it stands has what was said before");
  const whole = await staying;
  same(rest.slice(1), whole.slice(1 - rest.length), "both streams had the same events");

  const final = await client.getTask({ id, tenant: "", historyLength: undefined });
  same(final.status.state, COMPLETED);
  same(rest.reduce(fold, undefined), final);
  same(whole.reduce(fold, undefined), final);
  const report = final.artifacts.find((one) => one.name === "report.txt");
  ok(/^Report on “the tides”: .* reads it\.$/.test(report.parts.map((part) => part.content.value).join("")));

  // In one piece.
  const sent = await client.sendMessage(asking("at once"));
  same(sent.status.state, COMPLETED);
  same((await client.getTask({ id: sent.id, tenant: "", historyLength: 1 })).history.length, 1);

  // What cannot be done has its name.
  await rejects(client.getTask({ id: "nobody", tenant: "", historyLength: undefined }), { name: "TaskNotFoundError" });
  await rejects(collect(client.resubscribeTask({ id: "nobody", tenant: "" })), { name: "TaskNotFoundError" });
  await rejects(collect(client.resubscribeTask({ id, tenant: "" })), { name: "UnsupportedOperationError" });
  await rejects(client.cancelTask({ id, tenant: "", metadata: {} }));
  console.log(`  @a2a-js/sdk, v${version}: cut after ${cut.length} events, back with the task and ${rest.length - 1} more, the same final task`);
}
