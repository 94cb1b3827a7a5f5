// Server-sent events as `graphql-sse` reads them in its distinct-connections mode, and byte by byte.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { createClient } from "graphql-sse";
import { CONVERSATION, Cable, FIRST, HALF, RUN, SECOND, Weft, assertWhole, isEnd, joined, test, until } from "./weft.mjs";

let weft, cable, first, quiet;
before(async () => {
  weft = await Weft.start();
  cable = await Cable.lay(weft);
  const agentId = await weft.agentThatSays("plain", [...FIRST, ...SECOND]);
  first = await weft.send({ agentId, text: "What does a loom hold?" });
  // What takes its time begins now, and the last test sees how it went.
  const began = Date.now();
  quiet = { stream: await Stream.open("subscription { changes(kinds: [FILE]) { cursor } }") };
  quiet.heartbeat = new Promise((resolve, reject) => {
    const listen = async () => {
      for await (const { comment } of quiet.stream) if (comment !== undefined && Date.now() - began > 5_000) resolve(Date.now() - began);
    };
    listen().catch(reject);
  });
  quiet.heartbeat.catch(() => {});
});
after(async () => {
  quiet?.stream.abort.abort();
  cable?.close();
  await weft?.stop();
});

/** An event stream as it comes over the wire, by the letter of the HTML standard. */
class Stream {
  static async open(query, variables = {}, { headers = {}, url = weft.graphql, method = "POST", body } = {}) {
    const stream = new Stream();
    stream.abort = new AbortController();
    const asked = { query, variables: JSON.stringify(variables) };
    stream.response = await fetch(method === "GET" ? `${url}?${new URLSearchParams(asked)}` : url, {
      method,
      signal: stream.abort.signal,
      headers: {
        accept: "text/event-stream",
        authorization: weft.bearer,
        ...(method === "POST" && { "content-type": "application/json" }),
        ...headers,
      },
      ...(method === "POST" && { body: body ?? JSON.stringify({ query, variables }) }),
    });
    return stream;
  }

  /** Events and comments in their order. */
  async *[Symbol.asyncIterator]() {
    assert.equal(this.response.status, 200);
    assert.match(this.response.headers.get("content-type"), /^text\/event-stream\b/);
    const decoder = new TextDecoder();
    let text = "";
    let event = {};
    for await (const bytes of this.response.body) {
      text += decoder.decode(bytes, { stream: true });
      const lines = text.split("\n");
      text = lines.pop();
      for (const line of lines) {
        const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
        if (line === "") {
          if (Object.keys(event).length) yield event;
          event = {};
        } else if (field === "") yield { comment: value };
        else event[field] = event[field] === undefined ? value : `${event[field]}\n${value}`;
      }
    }
    assert.deepEqual(event, {}, "the stream ended in the middle of an event");
  }

  /** All events up to the end of the stream. */
  async rest() {
    const events = [];
    for await (const event of this) if (event.comment === undefined) events.push(event);
    return events;
  }
}

const connect = (options = {}) => createClient({ url: weft.graphql, headers: { authorization: weft.bearer }, retryAttempts: 0, ...options });
const cursorsOf = (events) => events.map(({ cursor }) => cursor);

/** What a run told, read over the wire. */
async function told(stream) {
  const events = await stream.rest();
  assert.deepEqual(events.pop(), { event: "complete", data: "" });
  return events.map(({ event, id, data }) => {
    assert.equal(event, "next");
    const { runEvents } = JSON.parse(data).data;
    assert.equal(id, runEvents.cursor, "an event's id is its cursor");
    return runEvents;
  });
}

test("answers a query and a mutation with one `next`, then `complete`", async () => {
  const client = connect();
  const all = async (request) => {
    const results = [];
    for await (const result of client.iterate(request)) results.push(result);
    return results;
  };
  const [query, ...more] = await all({ query: "{ viewer { role } }" });
  assert.deepEqual([query.data, more], [{ viewer: { role: "OWNER" } }, []]);
  const [mutation] = await all({
    query: "mutation ($input: CreateConversationInput!) { createConversation(input: $input) { conversation { title } errors { code } } }",
    variables: { input: { title: "By events" } },
  });
  assert.deepEqual(mutation.data, { createConversation: { conversation: { title: "By events" }, errors: [] } });
  client.dispose();
});

test("streams an answer to the stock client", async () => {
  const client = connect();
  const events = [];
  for await (const { data } of client.iterate({ query: RUN, variables: { id: first.run.id } })) events.push(data.runEvents);
  assertWhole(events);
  client.dispose();
});

test("the id of an event is its cursor; the stream ends with `complete`", async () => {
  const stream = await Stream.open(RUN, { id: first.run.id });
  assert.match(stream.response.headers.get("cache-control"), /no-store|no-cache/);
  assertWhole(await told(stream));
  // By GET, as an EventSource asks: queries alone.
  const query = await Stream.open("{ service { name } }", {}, { method: "GET" });
  assert.deepEqual((await query.rest()).map(({ event }) => event), ["next", "complete"]);
});

test("`Last-Event-ID` resumes after that event, and goes before `after`", async () => {
  const whole = await told(await Stream.open(RUN, { id: first.run.id }));
  const at = (place, variables = {}) =>
    Stream.open(RUN, { id: first.run.id, ...variables }, { headers: { "last-event-id": whole[place].cursor } }).then(told);
  for (const place of [0, 3, whole.length - 2]) {
    assert.deepEqual(cursorsOf(await at(place)), cursorsOf(whole.slice(place + 1)));
    assert.deepEqual(cursorsOf(await at(place, { after: whole[1].cursor })), cursorsOf(whole.slice(place + 1)));
  }
  assert.deepEqual(await at(whole.length - 1), [], "there is nothing after the end");
});

test("goes on from the last event's id after the line was cut", async () => {
  const sent = await weft.halves("cut");
  const variables = { id: sent.id, after: sent.cursor };
  const events = [];
  let last;
  await assert.rejects(async () => {
    for await (const { id, data } of await Stream.open(CONVERSATION, variables, { url: cable.graphql })) {
      if (data === undefined) continue;
      last = id;
      events.push(JSON.parse(data).data.conversationEvents);
      if (joined(events) === HALF) cable.cut();
    }
  }, "the line was cut and nobody noticed");
  assert.equal(joined(events), HALF);
  await sent.open();
  const again = await Stream.open(CONVERSATION, variables, { headers: { "last-event-id": last } });
  for await (const { data } of again) {
    if (data === undefined) continue;
    events.push(JSON.parse(data).data.conversationEvents);
    if (isEnd(events.at(-1))) break;
  }
  assertWhole(events);
});

test("the stock client comes back by itself, with `Last-Event-ID`", async () => {
  const sent = await weft.halves("retry");
  const events = [];
  let dials = 0;
  const client = connect({
    url: cable.graphql,
    retryAttempts: 5,
    headers: () => ({ authorization: weft.bearer, ...(events.length && { "last-event-id": events.at(-1).cursor }) }),
    on: { connected: () => (dials += 1) },
  });
  for await (const { data } of client.iterate({ query: CONVERSATION, variables: { id: sent.id, after: sent.cursor } })) {
    events.push(data.conversationEvents);
    if (dials === 1 && joined(events) === HALF) {
      cable.cut();
      await sent.open();
    }
    if (isEnd(events.at(-1))) break;
  }
  client.dispose();
  assert.equal(dials, 2);
  assertWhole(events);
});

test("an operation that is refused is told by the stream, as the protocol says", async () => {
  const refused = [
    ["subscription { nothing }", {}, "INVALID_INPUT"],
    ["subscription {", {}, "INVALID_INPUT"],
    [CONVERSATION, {}, "INVALID_INPUT"],
    [CONVERSATION, { id: first.run.id }, "NOT_FOUND"],
    [CONVERSATION, { id: first.conversation.id, after: "nonsense" }, "INVALID_INPUT"],
  ];
  for (const [query, variables, code] of refused) {
    const stream = await Stream.open(query, variables);
    const [next, complete, ...more] = await stream.rest();
    assert.equal(next.event, "next");
    const { errors, data } = JSON.parse(next.data);
    assert.equal(errors[0].extensions.code, code, `${query}: ${next.data}`);
    assert(data === undefined || data === null);
    assert.deepEqual([complete, more], [{ event: "complete", data: "" }, []]);
    // To the stock client that is a result, at once.
    const client = connect({ retryAttempts: 5 });
    const { value } = await client.iterate({ query, variables }).next();
    assert.equal(value.errors[0].extensions.code, code);
    client.dispose();
  }
});

test("a bad place to resume from is refused", async () => {
  const stream = await Stream.open(CONVERSATION, { id: first.conversation.id }, { headers: { "last-event-id": "nonsense" } });
  const [next] = await stream.rest();
  assert.equal(JSON.parse(next.data).errors[0].extensions.code, "INVALID_INPUT");
});

test("a request that is none, or whose credential is none, has a status", async () => {
  const cases = [
    [401, { headers: { authorization: "Bearer nonsense" } }],
    [400, { body: "nonsense" }],
    [400, { body: "{}" }],
    [400, { body: "[]" }],
    [415, { headers: { "content-type": "text/plain" } }],
  ];
  for (const [status, options] of cases) {
    const { response } = await Stream.open(CONVERSATION, { id: first.conversation.id }, options);
    assert.equal(response.status, status);
    assert.match(response.headers.get("content-type"), /json/);
    assert.equal(typeof (await response.json()).errors[0].extensions.code, "string");
  }
  for (const document of ["mutation { signOut(input: {}) { ended } }", "subscription { changes { id } }"]) {
    const { response } = await Stream.open(document, {}, { method: "GET" });
    await response.text();
    assert.equal(response.status, 405, `by GET: ${document}`);
  }
});

test("ends without `complete` when the credential ends, so that clients come back", async () => {
  const session = await weft.signIn();
  const key = await weft.done("createApiKey", { name: "revoked", kind: "PERSONAL" }, "secret apiKey { id }");
  const streams = await Promise.all(
    [session.accessToken, key.secret].map((token) =>
      Stream.open(CONVERSATION, { id: first.conversation.id, after: first.cursor }, { headers: { authorization: `Bearer ${token}` } }),
    ),
  );
  // All of what has been, then silence, then the end.
  const ends = streams.map((stream) => stream.rest().catch((error) => [{ event: "broken off", error }]));
  await weft.ask("mutation { signOut(input: {}) { ended errors { code } } }", {}, { authorization: `Bearer ${session.accessToken}` });
  await weft.done("revokeApiKey", { id: key.apiKey.id }, "deletedIds");
  const began = Date.now();
  for (const events of await Promise.all(ends)) assert(!events.some(({ event }) => event === "complete"), JSON.stringify(events.at(-1)));
  assert(Date.now() - began < 5_000, "it took too long");
});

test("a client that goes frees its stream; many may follow one conversation", async () => {
  const sent = await weft.halves("many");
  const variables = { id: sent.id, after: sent.cursor };
  const leaving = await Stream.open(CONVERSATION, variables);
  for await (const { data } of leaving) if (data !== undefined) break;
  leaving.abort.abort();
  const follow = async () => {
    const events = [];
    const client = connect();
    for await (const { data } of client.iterate({ query: CONVERSATION, variables })) {
      events.push(data.conversationEvents);
      if (isEnd(events.at(-1))) break;
    }
    client.dispose();
    return events;
  };
  const followed = Array.from({ length: 5 }, follow);
  await sent.open();
  for (const events of await Promise.all(followed)) assertWhole(events);
});

test("a stream is a connection of its user: the eleventh is refused, and one that goes makes room", async () => {
  const open = () => Stream.open(CONVERSATION, { id: first.conversation.id });
  // One is open from the beginning.
  const streams = await Promise.all(Array.from({ length: 9 }, open));
  assert.deepEqual(streams.map(({ response }) => response.status), streams.map(() => 200));
  const { response } = await open();
  assert.equal(response.status, 429);
  assert(Number(response.headers.get("retry-after")) >= 0);
  assert.equal((await response.json()).errors[0].extensions.code, "RATE_LIMITED");
  streams.pop().abort.abort();
  streams.push(
    await until("room for another stream", async () => {
      const stream = await open();
      if (stream.response.ok) return stream;
      await stream.response.text();
    }),
  );
  for (const { abort } of streams) abort.abort();
});

test("a stream in which nothing happens has a heartbeat", async () => {
  const took = await quiet.heartbeat;
  assert(took > 10_000 && took < 20_000, `it took ${took} ms`);
});
