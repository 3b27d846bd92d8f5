// Hands what fanfare's types wrote to the protocols' own packages: every AG-UI event to the schemas of @ag-ui/core, every
// A2A response to the clients of @a2a-js/sdk, through their own parsers of streams.
//
//   node check.mjs DIRECTORY      with the files that tests/protocol/written.rs makes
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { deepStrictEqual as same, ok, rejects } from "node:assert/strict";

import { EventType } from "@ag-ui/core";
import { EventSchema } from "@ag-ui/core/schemas";
import { Message, Task } from "@a2a-js/sdk";
import { JsonRpcTransportFactory } from "@a2a-js/sdk/client";
import { LegacyJsonRpcTransport } from "@a2a-js/sdk/compat/v0_3/client";

const directory = process.argv[2];
const lines = (file) => readFileSync(join(directory, file), "utf8").split("\n");

// ---- AG-UI -----------------------------------------------------------------------------------------------------------

const refused = (object) => !EventSchema.safeParse(object).success;
// The schemas bite.
ok(refused({ type: "TEXT_MESSAGE_CONTENT", messageId: "m" }));
ok(refused({ type: "TEXT_MESSAGE_END", messageId: "m", timestamp: "2026-01-01T00:00:00Z" }));
ok(refused({ type: "RUN_FINISHED", threadId: "t", runId: "r", outcome: { type: "interrupt", interrupts: [] } }));

const seen = new Set();
const events = lines("ag-ui.jsonl").map((line) => JSON.parse(line));
for (const event of events) {
  const { success, error, data } = EventSchema.safeParse(event);
  if (!success) throw new Error(`@ag-ui/core refuses ${JSON.stringify(event)}: ${error.message}`);
  same(data, event);
  seen.add(event.type);
}
same([...seen].sort(), Object.values(EventType).sort());
console.log(`AG-UI: ${events.length} events of ${seen.size} types pass the schemas of @ag-ui/core`);

// ---- A2A -------------------------------------------------------------------------------------------------------------

const envelopes = new Map(lines("a2a-envelopes.jsonl").map((line) => JSON.parse(line)).map((envelope) => [envelope.id, envelope]));

// A server that answers every request with these responses, in the envelope of the request's id.
const serve = (responses) => async (_, { body }) => {
  const { prefix, suffix } = envelopes.get(JSON.parse(body).id);
  const stream = responses.map((response) => `data: ${prefix}${response}${suffix}\n\n`).join("");
  return new Response(stream, { headers: { "content-type": "text/event-stream" } });
};

const collect = async (transport) => {
  const received = [];
  for await (const response of transport.resubscribeTask({ id: "t", tenant: "" })) received.push(response.payload);
  return received;
};

const newer = lines("a2a-1.0.jsonl");
const older = lines("a2a-0.3.jsonl");
const endpoint = "http://localhost/";
const current = (responses) => new JsonRpcTransportFactory({ fetchImpl: serve(responses) }).create(endpoint, {});
const legacy = (responses) => new LegacyJsonRpcTransport({ endpoint, fetchImpl: serve(responses) });

const fromNewer = await collect(await current(newer));
const fromOlder = await collect(legacy(older));
same(fromNewer.length, newer.length);
// What the two clients understand is the same, although the bytes differ.
same(fromOlder, fromNewer);

const members = fromNewer.map((payload) => payload.$case);
same(new Set(members), new Set(["task", "message", "statusUpdate", "artifactUpdate"]));
// The client's own writer says what we said.
const types = { task: Task, message: Message };
for (const [at, { $case, value }] of fromNewer.entries()) {
  if (types[$case]) same(types[$case].toJSON(value), JSON.parse(newer[at])[$case]);
}
// The clients bite: each version refuses the other's bytes, and an envelope that is not its request's.
await rejects(collect(legacy(newer)));
const wrong = async () => new Response(`data: ${envelopes.get(9).prefix}${newer[0]}}\n\n`, { headers: { "content-type": "text/event-stream" } });
await rejects(collect(await new JsonRpcTransportFactory({ fetchImpl: wrong }).create(endpoint, {})));
console.log(`A2A: ${newer.length} responses pass the clients of @a2a-js/sdk, in v1.0 and in v0.3`);
