// What a front end does all day, over `graphql-ws` as published.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { buildClientSchema, getIntrospectionQuery, parse, validate } from "graphql";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { CONVERSATION, Cable, EMAIL, FIRST, HALF, PASSWORD, RUN, SECOND, Weft, assertWhole, isEnd, joined, test } from "./weft.mjs";

let weft, cable, first;
before(async () => {
  weft = await Weft.start();
  cable = await Cable.lay(weft);
});
after(async () => {
  cable?.close();
  await weft?.stop();
});

/** A client of the WebSocket; by itself it does not come back. */
const connect = ({ credential = weft.token, ...options } = {}) =>
  createClient({
    url: weft.socket,
    webSocketImpl: WebSocket,
    connectionParams: credential ? { Authorization: `Bearer ${credential}` } : {},
    retryAttempts: 0,
    ...options,
  });

/** Follows a conversation to the end of its run. */
async function follow(client, variables, events = []) {
  for await (const { data } of client.iterate({ query: CONVERSATION, variables })) {
    events.push(data.conversationEvents);
    if (isEnd(events.at(-1))) break;
  }
  return events;
}

test("says what it is without a credential", async () => {
  const { data } = await weft.post("{ service { name version needsSetup limits { maxPageSize } } viewer { user { id } } }", {}, { authorization: "" });
  assert.equal(data, undefined, "an empty credential is a wrong one");
  const response = await fetch(`${weft.graphql}?query=${encodeURIComponent("{ service { needsSetup limits { maxPageSize } } viewer { user { id } } }")}`);
  const { service, viewer } = (await response.json()).data;
  assert.deepEqual({ service, viewer }, { service: { needsSetup: false, limits: { maxPageSize: 100 } }, viewer: null });
});

test("is set up once", async () => {
  const { data } = await weft.post(`mutation ($input: SetUpInput!) { setUp(input: $input) { accessToken errors { code } } }`, {
    input: { email: "two@example.test", password: PASSWORD, name: "Two", tenantName: "Two" },
  });
  assert.equal(data.setUp.accessToken, null, "it was set up twice");
  assert.equal(data.setUp.errors.length, 1);
});

test("signs in", async () => {
  const { viewer } = await weft.done("signIn", { email: EMAIL, password: PASSWORD }, "viewer { user { email } role }");
  assert.deepEqual(viewer, { user: { email: EMAIL }, role: "OWNER" });
});

test("can be introspected, and its schema holds", async () => {
  const schema = buildClientSchema(await weft.ask(getIntrospectionQuery()));
  for (const document of [CONVERSATION, RUN]) assert.deepEqual(validate(schema, parse(document)), []);
});

test("streams an answer from the cursor of sendMessage on", async () => {
  const agentId = await weft.agentThatSays("plain", [...FIRST, ...SECOND]);
  first = await weft.send({ agentId, text: "What does a loom hold?", clientId: "mine" });
  const client = connect();
  const events = await follow(client, { id: first.conversation.id, after: first.cursor });
  await client.dispose();
  const kinds = assertWhole(events);
  for (const kind of ["MessageCreated", "RunQueued", "RunStarted", "StepStarted", "StepFinished"]) assert(kinds.includes(kind), `no ${kind} in ${kinds}`);
  const [asked] = events;
  assert.deepEqual(asked.message, { id: first.message.id, role: "USER", status: "COMPLETE", clientId: "mine" });
});

test("replays a run from its beginning and ends there", async () => {
  const client = connect();
  const events = [];
  for await (const { data } of client.iterate({ query: RUN, variables: { id: first.run.id } })) events.push(data.runEvents);
  assertWhole(events);
  const variables = { id: first.run.id, after: events.at(-1).cursor };
  for await (const { data } of client.iterate({ query: RUN, variables })) assert.fail(`came after the end: ${JSON.stringify(data)}`);
  await client.dispose();
});

test("goes on from the last cursor after the line was cut", async () => {
  const sent = await weft.halves("cut");
  const variables = { id: sent.id, after: sent.cursor };
  const events = [];
  const client = connect({ url: cable.socket });
  await assert.rejects(
    async () => {
      for await (const { data } of client.iterate({ query: CONVERSATION, variables })) {
        events.push(data.conversationEvents);
        // Everything before the gate has come: the network goes.
        if (joined(events) === HALF) cable.cut();
      }
    },
    { code: 1006 },
  );
  await sent.open();
  const again = connect();
  assertWhole(await follow(again, { ...variables, after: events.at(-1).cursor }, events));
  await again.dispose();
  const { run } = await weft.ask("query ($id: ID!) { run(id: $id) { status output { text } } }", { id: sent.run.id });
  assert.deepEqual(run, { status: "COMPLETED", output: { text: joined(events) } });
});

test("lets the client come back by itself", async () => {
  const sent = await weft.halves("retry");
  // The client sends its variables anew with each connection, so it is enough to keep the cursor in them.
  const variables = { id: sent.id, after: sent.cursor };
  let dials = 0;
  const events = [];
  const client = connect({ url: cable.socket, retryAttempts: 5, on: { connected: () => (dials += 1) } });
  for await (const { data } of client.iterate({ query: CONVERSATION, variables })) {
    events.push(data.conversationEvents);
    variables.after = events.at(-1).cursor;
    if (dials === 1 && joined(events) === HALF) {
      cable.cut();
      await sent.open();
    }
    if (isEnd(events.at(-1))) break;
  }
  await client.dispose();
  assert.equal(dials, 2);
  assertWhole(events);
});

test("serves several operations on one socket", async () => {
  const agentId = await weft.agentThatSays("side", [...FIRST, ...SECOND]);
  const sent = await Promise.all(Array.from({ length: 5 }, (_, at) => weft.send({ agentId, text: `Side by side ${at}` })));
  let sockets = 0;
  const client = connect({ on: { opened: () => (sockets += 1) } });
  const followed = sent.map(({ conversation, cursor }) => follow(client, { id: conversation.id, after: cursor }));
  // A query goes over the same socket.
  const { value } = await client.iterate({ query: "{ viewer { role } }" }).next();
  assert.deepEqual(value.data, { viewer: { role: "OWNER" } });
  for (const events of await Promise.all(followed)) assertWhole(events);
  await client.dispose();
  assert.equal(sockets, 1);
});

test("tells what is wrong with an operation, and serves the next one", async () => {
  const client = connect();
  const refused = (query, variables) =>
    client.iterate({ query, variables }).next().then(
      ({ value }) => value?.errors ?? assert.fail(`it was answered: ${JSON.stringify(value)}`),
      (errors) => errors,
    );
  const code = async (query, variables) => (await refused(query, variables))[0].extensions.code;
  assert.equal(await code(CONVERSATION, { id: first.conversation.id, after: "nonsense" }), "INVALID_INPUT");
  assert.equal(await code(CONVERSATION, { id: first.run.id }), "NOT_FOUND");
  assert.equal(await code("subscription { nothing }"), "INVALID_INPUT");
  assert.equal(await code("{ viewer {"), "INVALID_INPUT");
  const { value } = await client.iterate({ query: "{ viewer { role } }" }).next();
  assert.deepEqual(value.data, { viewer: { role: "OWNER" } });
  await client.dispose();
});

test("works with an API key", async () => {
  const { secret, apiKey } = await weft.done("createApiKey", { name: "outside", kind: "PERSONAL" }, "secret apiKey { id prefix status }");
  assert(secret.startsWith(apiKey.prefix));
  const { viewer } = await weft.ask("{ viewer { credential } }", {}, { authorization: `Bearer ${secret}` });
  assert.equal(viewer.credential, "PERSONAL_KEY");
  const client = connect({ credential: secret });
  const events = [];
  for await (const { data } of client.iterate({ query: RUN, variables: { id: first.run.id } })) events.push(data.runEvents);
  await client.dispose();
  assertWhole(events);
  await weft.done("revokeApiKey", { id: apiKey.id }, "deletedIds");
  const { status, errors } = await weft.post("{ viewer { role } }", {}, { authorization: `Bearer ${secret}` });
  assert.equal(errors[0].extensions.code, "UNAUTHENTICATED", `answered ${status}`);
});
