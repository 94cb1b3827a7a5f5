// Weft driven by what front ends use: `graphql-ws` and `fetch`, as published. Against WEFT_URL, with a model provider at
// PROVIDER_URL that says what it is told to.
import assert from "node:assert/strict";
import { buildClientSchema, getIntrospectionQuery, parse, validate } from "graphql";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const weft = process.env.WEFT_URL ?? "http://127.0.0.1:8080";
const provider = process.env.PROVIDER_URL;
assert(provider, "PROVIDER_URL is the address of the scripted provider");

const EMAIL = "outside@example.test";
const PASSWORD = "shuttle, heddle and reed";
/** How long a single test may take, in milliseconds. */
const PATIENCE = 30_000;
/** Letters of one, two and three bytes, and one outside the basic plane: positions in text count UTF-16 code units. */
const WORDS = ["The ", "über", " loom ", "织物 ", "🧵 ", "holds ", "the ", "warp", "."];
const TEXT = WORDS.join("");

let token;

async function post(query, variables = {}, headers = {}) {
  const response = await fetch(`${weft}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }), ...headers },
    body: JSON.stringify({ query, variables }),
  });
  return { status: response.status, ...(await response.json()) };
}

/** Asks for a document in which nothing may go wrong. */
async function ask(query, variables, headers) {
  const { status, data, errors } = await post(query, variables, headers);
  assert.equal(errors, undefined, `${query}\nanswered ${status} with ${JSON.stringify(errors)}`);
  return data;
}

/** Does a mutation of one field that may not be refused; answers its payload. */
async function done(field, input, selection) {
  const type = field[0].toUpperCase() + field.slice(1);
  const data = await ask(`mutation ($input: ${type}Input!) { ${field}(input: $input) { ${selection} errors { code message } } }`, { input });
  assert.deepEqual(data[field].errors, [], `${field} was refused`);
  return data[field];
}

async function control(method, path, body) {
  const response = await fetch(`${provider}/control/${path}`, { method, body: body && JSON.stringify(body) });
  assert(response.ok, `the provider refused ${method} ${path}: ${await response.text()}`);
}

const EVENTS = `
  __typename cursor runId
  ... on MessageCreated { messageId message { id role status clientId } }
  ... on TextDelta { messageId part offset text }
  ... on MessageCompleted { messageId message { id role status text parts { __typename ... on TextPart { index text } } } }
  ... on StepFinished { step result { finishReason usage { inputTokens outputTokens } } }
  ... on RunCompleted { run { id status } }
  ... on RunFailed { error { kind message } }`;
const CONVERSATION = `subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) { ${EVENTS} } }`;
const RUN = `subscription ($id: ID!, $after: Cursor) { runEvents(runId: $id, after: $after) { ${EVENTS} } }`;

/** A client of the WebSocket, and the socket that it has at the moment. */
function connect({ credential = token, ...options } = {}) {
  const at = {};
  at.client = createClient({
    url: `${weft.replace(/^http/, "ws")}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: credential ? { Authorization: `Bearer ${credential}` } : {},
    retryAttempts: 0,
    on: { opened: (socket) => (at.socket = socket) },
    ...options,
  });
  return at;
}

const isEnd = ({ __typename }) => ["RunCompleted", "RunFailed", "RunCancelled"].includes(__typename);

/** The text that the deltas make, each put where it says that it stands. */
function joined(events) {
  return events.filter((event) => event.__typename === "TextDelta").reduce((text, delta) => {
    assert.equal(delta.offset, text.length, `a delta stands at ${delta.offset} and the text is ${text.length} long: ${JSON.stringify(delta)}`);
    return text + delta.text;
  }, "");
}

function assertWhole(events, text = TEXT) {
  const kinds = events.map((event) => event.__typename);
  assert.equal(kinds.at(-1), "RunCompleted", `the run ended with ${JSON.stringify(events.at(-1))}`);
  assert.equal(new Set(events.map((event) => event.cursor)).size, events.length, "an event came twice");
  const finished = events.find((event) => event.__typename === "MessageCompleted");
  assert.equal(finished.message.text, text);
  assert.equal(finished.message.status, "COMPLETE");
  assert.equal(joined(events), text, "the deltas make another text than the finished message");
  return kinds;
}

/** A model that says this, on an agent of its own. */
async function agentThatSays(name, steps) {
  await control("PUT", `scripts/${name}`, [{ steps }]);
  const { model } = await done(
    "createModel",
    { slug: name, name, kind: "CHAT", provider: "OPENAI_COMPATIBLE", modelName: name, baseUrl: `${provider}/v1`, apiKey: "sk-outside" },
    "model { id hasApiKey }",
  );
  assert.equal(model.hasApiKey, true);
  const { agent } = await done("createAgent", { name, instructions: "Answer.", modelId: model.id }, "agent { id version { number } model { id } }");
  assert.deepEqual({ number: agent.version.number, model: agent.model.id }, { number: 1, model: model.id });
  return agent.id;
}

const send = (input) => done("sendMessage", input, "conversation { id } message { id role } run { id status } cursor");

const unique = Date.now().toString(36);
const said = WORDS.map((text) => ({ text }));
let first;

const tests = {
  async "says what it is without a credential"() {
    const { service, viewer } = await ask("{ service { name version needsSetup limits { maxPageSize } } viewer { user { id } } }");
    assert.equal(service.limits.maxPageSize, 100);
    assert.equal(viewer, null);
  },

  async "is set up once, or signs in"() {
    const { service } = await ask("{ service { needsSetup } }");
    const selection = "accessToken viewer { user { email } role }";
    const payload = service.needsSetup
      ? await done("setUp", { email: EMAIL, password: PASSWORD, name: "Outside", tenantName: "Outside" }, selection)
      : await done("signIn", { email: EMAIL, password: PASSWORD }, selection);
    assert.deepEqual(payload.viewer, { user: { email: EMAIL }, role: "OWNER" });
    const { data } = await post(`mutation ($input: SetUpInput!) { setUp(input: $input) { accessToken errors { code } } }`, {
      input: { email: "two@example.test", password: PASSWORD, name: "Two", tenantName: "Two" },
    });
    assert.equal(data.setUp.accessToken, null, "it was set up twice");
    assert.equal(data.setUp.errors.length, 1);
    token = payload.accessToken;
  },

  async "can be introspected, and its schema holds"() {
    const schema = buildClientSchema(await ask(getIntrospectionQuery()));
    for (const document of [CONVERSATION, RUN]) assert.deepEqual(validate(schema, parse(document)), []);
  },

  async "streams an answer from the cursor of sendMessage on"() {
    const agentId = await agentThatSays(`node-plain-${unique}`, said);
    first = await send({ agentId, text: "What does a loom hold?", clientId: "mine" });
    const { client } = connect();
    const events = [];
    for await (const { data } of client.iterate({ query: CONVERSATION, variables: { id: first.conversation.id, after: first.cursor } })) {
      events.push(data.conversationEvents);
      if (isEnd(events.at(-1))) break;
    }
    await client.dispose();
    const kinds = assertWhole(events);
    for (const kind of ["MessageCreated", "RunQueued", "RunStarted", "StepStarted", "StepFinished"]) assert(kinds.includes(kind), `no ${kind} in ${kinds}`);
    const [asked] = events;
    assert.deepEqual(asked.message, { id: first.message.id, role: "USER", status: "COMPLETE", clientId: "mine" });
  },

  async "replays a run from its beginning and ends there"() {
    const { client } = connect();
    const events = [];
    for await (const { data } of client.iterate({ query: RUN, variables: { id: first.run.id } })) events.push(data.runEvents);
    assertWhole(events);
    const after = events.at(-1).cursor;
    for await (const { data } of client.iterate({ query: RUN, variables: { id: first.run.id, after } })) assert.fail(`came after the end: ${JSON.stringify(data)}`);
    await client.dispose();
  },

  async "goes on from the last cursor after the socket was cut"() {
    const name = `node-cut-${unique}`;
    const agentId = await agentThatSays(name, [...said.slice(0, 4), { wait_for: name }, ...said.slice(4)]);
    const sent = await send({ agentId, text: "Begin, and wait for me." });
    const events = [];
    const variables = { id: sent.conversation.id, after: sent.cursor };
    const cut = connect();
    await assert.rejects(async () => {
      for await (const { data } of cut.client.iterate({ query: CONVERSATION, variables })) {
        events.push(data.conversationEvents);
        // Everything before the gate has come: the network goes.
        if (joined(events) === WORDS.slice(0, 4).join("")) cut.socket.terminate();
      }
    }, { code: 1006 });
    await control("POST", `gates/${name}`);
    const { client } = connect();
    for await (const { data } of client.iterate({ query: CONVERSATION, variables: { ...variables, after: events.at(-1).cursor } })) {
      events.push(data.conversationEvents);
      if (isEnd(events.at(-1))) break;
    }
    await client.dispose();
    assertWhole(events);
    const { run } = await ask("query ($id: ID!) { run(id: $id) { status output { text } } }", { id: sent.run.id });
    assert.deepEqual(run, { status: "COMPLETED", output: { text: TEXT } });
  },

  async "lets the client reconnect by itself"() {
    const name = `node-retry-${unique}`;
    const agentId = await agentThatSays(name, [...said.slice(0, 5), { wait_for: name }, ...said.slice(5)]);
    const sent = await send({ agentId, text: "Again." });
    const events = [];
    // The client sends its variables anew with each connection, so it is enough to keep the cursor in them.
    const variables = { id: sent.conversation.id, after: sent.cursor };
    const at = connect({ retryAttempts: 5 });
    let cuts = 0;
    for await (const { data } of at.client.iterate({ query: CONVERSATION, variables })) {
      events.push(data.conversationEvents);
      variables.after = events.at(-1).cursor;
      if (cuts === 0 && joined(events) === WORDS.slice(0, 5).join("")) {
        cuts += 1;
        at.socket.terminate();
        await control("POST", `gates/${name}`);
      }
      if (isEnd(events.at(-1))) break;
    }
    await at.client.dispose();
    assert.equal(cuts, 1);
    assertWhole(events);
  },

  async "serves several operations on one socket"() {
    const name = `node-side-${unique}`;
    const agentId = await agentThatSays(name, said);
    const sent = await Promise.all(Array.from({ length: 5 }, (_, at) => send({ agentId, text: `Side by side ${at}` })));
    const { client } = connect();
    const follow = async ({ conversation, cursor }) => {
      const events = [];
      for await (const { data } of client.iterate({ query: CONVERSATION, variables: { id: conversation.id, after: cursor } })) {
        events.push(data.conversationEvents);
        if (isEnd(events.at(-1))) return events;
      }
    };
    for (const events of await Promise.all(sent.map(follow))) assertWhole(events);
    // A query goes over the same socket.
    const { value } = await client.iterate({ query: "{ viewer { role } }" }).next();
    assert.deepEqual(value.data, { viewer: { role: "OWNER" } });
    await client.dispose();
  },

  async "refuses a bad credential and a bad cursor, in the protocol's words"() {
    const stranger = connect({ credential: "nonsense" });
    const closed = await stranger.client.iterate({ query: "{ service { name } }" }).next().then(() => assert.fail("it was let in"), (event) => event);
    assert.equal(closed.code, 4403, `closed with ${closed.code} ${closed.reason}`);
    const { client } = connect();
    const refused = (variables) => client.iterate({ query: CONVERSATION, variables }).next().then(
      ({ value }) => value?.errors ?? assert.fail(`it was answered: ${JSON.stringify(value)}`),
      (errors) => errors,
    );
    const code = async (variables) => (await refused(variables))[0].extensions.code;
    assert.equal(await code({ id: first.conversation.id, after: "nonsense" }), "INVALID_INPUT");
    assert.equal(await code({ id: first.run.id }), "NOT_FOUND");
    await client.dispose();
    const { status, errors } = await post("{ viewer { role } }", {}, { authorization: "Bearer nonsense" });
    assert.equal(errors[0].extensions.code, "UNAUTHENTICATED", `answered ${status}`);
  },

  async "works with an API key"() {
    const { secret, apiKey } = await done("createApiKey", { name: "outside", kind: "PERSONAL" }, "secret apiKey { id prefix status }");
    assert(secret.startsWith(apiKey.prefix));
    const { viewer } = await ask("{ viewer { credential } }", {}, { authorization: `Bearer ${secret}` });
    assert.equal(viewer.credential, "PERSONAL_KEY");
    const { client } = connect({ credential: secret });
    const events = [];
    for await (const { data } of client.iterate({ query: RUN, variables: { id: first.run.id } })) events.push(data.runEvents);
    await client.dispose();
    assertWhole(events);
    await done("revokeApiKey", { id: apiKey.id }, "deletedIds");
  },
};

/** Not for ever. */
function within(milliseconds, work) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not done after ${milliseconds} ms`)), milliseconds)));
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

let failed = 0;
let passed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await within(PATIENCE, test());
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error?.stack ?? JSON.stringify(error)}`);
  }
}
console.log(`graphql-ws: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
