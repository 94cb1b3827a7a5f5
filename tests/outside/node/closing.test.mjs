// Every way in which the protocol of `graphql-ws` lets a server close a socket, keep-alive, and the limits of sockets.
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { after, before } from "node:test";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { PROTOCOL, Raw } from "./raw.mjs";
import { Weft, test, until } from "./weft.mjs";

const CHANGES = "subscription { changes { cursor } }";
const SERVICE = "{ service { needsSetup } }";

let weft, silent, quiet;
before(async () => {
  weft = await Weft.start();
  // What takes its time begins now, and the last tests see how it went.
  // The silent one comes from another address, so that it is not counted with those of a test below.
  silent = { began: Date.now(), raw: await Raw.open(weft, [PROTOCOL], { localAddress: "127.0.0.2" }) };
  quiet = { began: Date.now(), raw: await Raw.initialised(weft) };
  silent.raw.closed.then(() => (silent.took = Date.now() - silent.began));
  quiet.pinged = once(quiet.raw.socket, "ping").then(() => Date.now() - quiet.began);
});
after(() => weft?.stop());

/** The stock client; how its socket was closed, and how often it dialled. */
async function closingOf(options, work) {
  let dials = 0;
  const client = createClient({
    url: weft.socket,
    webSocketImpl: WebSocket,
    connectionParams: { Authorization: weft.bearer },
    on: { connecting: () => (dials += 1) },
    ...options,
  });
  const event = await work(client).then(() => assert.fail("nothing closed it"), (event) => event);
  await client.dispose();
  return { code: event.code, reason: event.reason, dials };
}

test("4400 for what is no message of the protocol", async () => {
  const payload = { query: SERVICE };
  const wrong = [
    ["not JSON", "nonsense"],
    ["nothing", ""],
    ["no object", "[]"],
    ["no type", "{}"],
    ["a type that is no text", { type: 5 }],
    ["a type of the older protocol", { type: "start", id: "1", payload }],
    ["a type that only servers send", { type: "next", id: "1", payload: {} }],
    ["an init whose payload is no object", { type: "connection_init", payload: 5 }],
    ["a ping whose payload is a list", { type: "ping", payload: [] }],
    ["a pong whose payload is text", { type: "pong", payload: "x" }],
    ["a subscribe without an id", { type: "subscribe", payload }],
    ["a subscribe with an empty id", { type: "subscribe", id: "", payload }],
    ["a subscribe whose id is a number", { type: "subscribe", id: 1, payload }],
    ["a subscribe without a payload", { type: "subscribe", id: "1" }],
    ["a subscribe without a document", { type: "subscribe", id: "1", payload: {} }],
    ["a document that is no text", { type: "subscribe", id: "1", payload: { query: 1 } }],
    ["variables that are no object", { type: "subscribe", id: "1", payload: { ...payload, variables: [] } }],
    ["an operation's name that is no text", { type: "subscribe", id: "1", payload: { ...payload, operationName: 1 } }],
    ["extensions that are no object", { type: "subscribe", id: "1", payload: { ...payload, extensions: "x" } }],
    ["a complete without an id", { type: "complete" }],
    ["a binary frame", new TextEncoder().encode(JSON.stringify({ type: "ping" }))],
  ];
  for (const [what, message] of wrong) {
    const raw = await Raw.initialised(weft);
    raw.send(message);
    await raw.closes(4400, /^Invalid message: ./).catch((error) => assert.fail(`${what}: ${error.message}`));
  }
  const stranger = await Raw.open(weft);
  stranger.send({ type: "connection_init", payload: { long: "x".repeat(16 * 1024) } });
  await stranger.closes(4400, /too large/);
});

test("4401 for an operation before the acknowledgement", async () => {
  const raw = await Raw.open(weft);
  raw.subscribe("1", SERVICE);
  await raw.closes(4401, /^Unauthorized$/);
});

test("4403 for a credential that is not accepted", async () => {
  const payloads = [
    { Authorization: "Bearer nonsense" },
    { Authorization: `Basic ${Buffer.from("a:b").toString("base64")}` },
    { "X-API-Key": "weft_pk_nonsense" },
    { Authorization: weft.bearer, "X-API-Key": "weft_pk_nonsense" },
    { Authorization: weft.bearer, authorization: "Bearer nonsense" },
    { Authorization: 5 },
    { Authorization: weft.bearer, "Weft-Tenant": "somebody-elses" },
  ];
  for (const payload of payloads) {
    const raw = await Raw.open(weft);
    raw.send({ type: "connection_init", payload });
    await raw.closes(4403, /./).catch((error) => assert.fail(`${Object.keys(payload)}: ${error.message}`));
  }
  // One in the headers and another in the payload.
  const raw = await Raw.open(weft, [PROTOCOL], { headers: { authorization: weft.bearer } });
  raw.send({ type: "connection_init", payload: { Authorization: "Bearer nonsense" } });
  await raw.closes(4403, /./);
  const { code } = await closingOf({ connectionParams: { Authorization: "Bearer nonsense" }, retryAttempts: 0 }, (client) => client.iterate({ query: SERVICE }).next());
  assert.equal(code, 4403);
});

test("4406 for another protocol, or none", async () => {
  const raw = await Raw.open(weft, []);
  await raw.closes(4406, /^Subprotocol not acceptable$/);
  // Asked for one that is not spoken here, clients hang up by themselves. So the frame is read off the wire.
  const { port } = new URL(weft.url);
  const request = http.get({
    port,
    path: "/graphql",
    headers: {
      connection: "upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": Buffer.alloc(16, 1).toString("base64"),
      "sec-websocket-protocol": "graphql-ws",
    },
  });
  const [response, socket, head] = await once(request, "upgrade");
  assert.equal(response.headers["sec-websocket-protocol"], undefined);
  let frame = head;
  while (frame.length < 4) frame = Buffer.concat([frame, ...(await once(socket, "data"))]);
  socket.destroy();
  assert.equal(frame[0], 0x88, "no close frame");
  assert.equal(frame.readUInt16BE(2), 4406);
});

test("4409 for an id that is in use", async () => {
  const raw = await Raw.initialised(weft);
  raw.subscribe("twice", CHANGES);
  raw.subscribe("twice", CHANGES);
  await raw.closes(4409, /^Subscriber for twice already exists$/);
  // A query counts as well, and an id that is long makes no reason that is too long.
  const long = "ä".repeat(100);
  const other = await Raw.initialised(weft);
  other.subscribe(long, CHANGES);
  other.subscribe(long, SERVICE);
  await other.closes(4409, /^Subscriber for ä/);
  const { code, dials } = await closingOf({ generateID: () => "same" }, (client) =>
    Promise.all([client.iterate({ query: CHANGES }).next(), client.iterate({ query: CHANGES }).next()]),
  );
  assert.deepEqual({ code, dials }, { code: 4409, dials: 1 });
});

test("an id is free again when its operation has ended, by either side", async () => {
  const raw = await Raw.initialised(weft);
  for (let round = 0; round < 3; round += 1) {
    raw.subscribe("again", SERVICE);
    assert.deepEqual((await raw.next()).payload.data, { service: { needsSetup: false } });
    assert.deepEqual(await raw.next(), { id: "again", type: "complete" });
    raw.subscribe("again", CHANGES);
    raw.send({ id: "again", type: "complete" });
  }
  // What is completed that isn't there is no mistake.
  raw.send({ id: "never", type: "complete" });
  raw.send({ type: "ping" });
  assert.deepEqual(await raw.next(), { type: "pong" });
  await raw.close();
});

test("4429 for a second init, before the acknowledgement as after it", async () => {
  const raw = await Raw.initialised(weft);
  raw.send({ type: "connection_init" });
  await raw.closes(4429, /^Too many initialisation requests$/);
  const hasty = await Raw.open(weft);
  hasty.send({ type: "connection_init" });
  hasty.send({ type: "connection_init" });
  await hasty.closes(4429, /^Too many initialisation requests$/);
});

test("1009 for a message that is too big, 1007 for text that is none", async () => {
  const big = await Raw.initialised(weft);
  big.send({ type: "ping", payload: { long: "x".repeat(1024 * 1024) } });
  await big.closes(1009, /./);
  const bytes = await Raw.initialised(weft);
  bytes.socket.send(Buffer.from([0x7b, 0xff, 0x7d]), { binary: false });
  await bytes.closes(1007, /./);
});

test("an ordinary close is answered with the same", async () => {
  for (const code of [1000, 1001, 4499]) {
    const raw = await Raw.initialised(weft);
    raw.subscribe("1", CHANGES);
    raw.socket.close(code, "Enough");
    assert.equal((await raw.closed).code, code);
  }
});

test("a socket without a credential asks what everybody may", async () => {
  const raw = await Raw.initialised(weft, null);
  raw.subscribe("1", SERVICE);
  assert.deepEqual((await raw.next()).payload.data, { service: { needsSetup: false } });
  assert.equal((await raw.next()).type, "complete");
  raw.subscribe("2", CHANGES);
  const { type, payload } = await raw.next();
  assert.deepEqual({ type, code: payload[0].extensions.code }, { type: "error", code: "UNAUTHENTICATED" });
  await raw.close();
});

test("pings are answered, before the init as well; the stock client keeps a socket alive by them", async () => {
  const raw = await Raw.open(weft);
  raw.send({ type: "ping", payload: { at: 1 } });
  assert.equal((await raw.next()).type, "pong");
  raw.send({ type: "pong", payload: { unasked: true } });
  raw.send({ type: "connection_init", payload: { Authorization: weft.bearer } });
  assert.deepEqual(await raw.next(), { type: "connection_ack" });
  await raw.close();
  let pongs = 0;
  let pong;
  const enough = new Promise((resolve) => (pong = () => (pongs += 1) === 3 && resolve()));
  const client = createClient({
    url: weft.socket,
    webSocketImpl: WebSocket,
    connectionParams: { Authorization: weft.bearer },
    keepAlive: 50,
    on: { pong: (received) => received && pong() },
  });
  const events = client.iterate({ query: CHANGES });
  events.next().catch(() => {});
  await enough;
  await events.return();
  await client.dispose();
});

test("a token is renewed by a ping, with one of the same session", async () => {
  const session = await weft.signIn();
  const raw = await Raw.initialised(weft, { Authorization: `Bearer ${session.accessToken}` });
  raw.subscribe("1", CHANGES);
  const { accessToken } = await weft.done("refreshSession", { refreshToken: session.refreshToken }, "accessToken");
  assert.notEqual(accessToken, session.accessToken);
  raw.send({ type: "ping", payload: { Authorization: `Bearer ${accessToken}` } });
  const pong = await raw.next();
  assert.deepEqual(pong, { type: "pong" }, "a token must not come back");
  await weft.agentThatSays("renewed", []);
  assert.equal((await raw.next()).type, "next");
  await raw.close();
});

test("4403 for a new token that is another's, or none", async () => {
  const another = await weft.signIn();
  const { secret } = await weft.done("createApiKey", { name: "another", kind: "PERSONAL" }, "secret");
  for (const token of [another.accessToken, secret, "nonsense"]) {
    const raw = await Raw.initialised(weft);
    raw.send({ type: "ping", payload: { Authorization: `Bearer ${token}` } });
    await raw.closes(4403, /./);
  }
});

test("4403 when the credential ends: signed out, revoked, run out", async () => {
  const session = await weft.signIn();
  const key = await weft.done("createApiKey", { name: "revoked", kind: "PERSONAL" }, "secret apiKey { id }");
  const brief = await weft.done(
    "createApiKey",
    { name: "brief", kind: "PERSONAL", expiresAt: new Date(Date.now() + 3000).toISOString() },
    "secret",
  );
  const sockets = [];
  for (const token of [session.accessToken, key.secret, brief.secret]) {
    const raw = await Raw.initialised(weft, { Authorization: `Bearer ${token}` });
    raw.subscribe("1", CHANGES);
    sockets.push(raw);
  }
  await weft.ask("mutation { signOut(input: {}) { ended errors { code } } }", {}, { authorization: `Bearer ${session.accessToken}` });
  await weft.done("revokeApiKey", { id: key.apiKey.id }, "deletedIds");
  const began = Date.now();
  for (const raw of sockets) await raw.closes(4403, /./);
  assert(Date.now() - began < 5000, "it took too long");
});

test("the fifty-first operation of a socket is refused, the others go on", async () => {
  const raw = await Raw.initialised(weft);
  for (let at = 1; at <= 51; at += 1) raw.subscribe(`${at}`, CHANGES);
  const { id, type, payload } = await raw.next();
  assert.deepEqual({ id, type }, { id: "51", type: "error" });
  const { code, limit, actual } = payload[0].extensions;
  assert.deepEqual({ code, limit, actual }, { code: "RATE_LIMITED", limit: 50, actual: 51 });
  // One goes, another may come.
  raw.send({ id: "7", type: "complete" });
  raw.subscribe("52", CHANGES);
  raw.send({ type: "ping" });
  assert.deepEqual(await raw.next(), { type: "pong" });
  await weft.agentThatSays("fifty", []);
  const told = new Set();
  while (told.size < 50) {
    const message = await raw.next();
    assert.equal(message.type, "next");
    told.add(message.id);
  }
  assert(!told.has("7") && told.has("52"));
  await raw.close();
});

test("4429 for the eleventh socket of a user; one that goes makes room", async () => {
  // One is open from the beginning.
  const sockets = await Promise.all(Array.from({ length: 9 }, () => Raw.initialised(weft)));
  const { secret } = await weft.done("createApiKey", { name: "eleventh", kind: "PERSONAL" }, "secret");
  for (const Authorization of [weft.bearer, `Bearer ${secret}`]) {
    const { code, dials } = await closingOf({ connectionParams: { Authorization } }, (client) => client.iterate({ query: SERVICE }).next());
    assert.deepEqual({ code, dials }, { code: 4429, dials: 1 });
  }
  await sockets.pop().close();
  const room = await until("room for another socket", async () => Raw.initialised(weft).catch(() => undefined));
  await Promise.all([room, ...sockets].map((raw) => raw.close()));
});

test("4429 for the twenty-first socket of an address that has not said who it is", async () => {
  const sockets = await Promise.all(Array.from({ length: 20 }, () => Raw.open(weft)));
  const raw = await Raw.open(weft);
  await raw.closes(4429, /^Too many connections$/);
  // Whoever is known by then does not count.
  sockets[0].send({ type: "connection_init" });
  assert.deepEqual(await sockets[0].next(), { type: "connection_ack" });
  sockets.push(await Raw.open(weft));
  await Promise.all(sockets.map((socket) => socket.close()));
});

test("4408 for a socket that says nothing", async () => {
  await silent.raw.closes(4408, /^Connection initialisation timeout$/);
  assert(silent.took >= 9_500 && silent.took < 13_000, `it took ${silent.took} ms`);
});

test("the server pings whom it does not hear; who answers stays", async () => {
  const took = await quiet.pinged;
  assert(took >= 18_000 && took < 25_000, `it took ${took} ms`);
  quiet.raw.subscribe("1", SERVICE);
  assert.equal((await quiet.raw.next()).type, "next");
  await quiet.raw.close();
});
