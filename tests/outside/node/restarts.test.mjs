// The server is killed, or ended, in the middle of an answer and started again on its port. Stock clients with their stock retry come
// back by themselves, over the WebSocket and over SSE, and see each event once.
import assert from "node:assert/strict";
import { describe } from "node:test";
import { createClient as createSseClient } from "graphql-sse";
import { createClient as createSocketClient } from "graphql-ws";
import WebSocket from "ws";
import { CONVERSATION, HALF, Weft, assertWhole, isEnd, joined, test } from "./weft.mjs";

/** Three clients of one conversation, each with its own way to say how far it has come. */
function followers(weft, sent) {
  const follower = (name) => ({ name, events: [], variables: { id: sent.id, after: sent.cursor } });
  const socket = { ...follower("graphql-ws"), closings: [], dials: 0 };
  socket.client = createSocketClient({
    url: weft.socket,
    webSocketImpl: WebSocket,
    connectionParams: { Authorization: weft.bearer },
    // A refused connection is an error to it, not a close; a server may take longer than its first wait to be there again.
    shouldRetry: () => true,
    on: { connected: () => (socket.dials += 1), closed: ({ code }) => socket.closings.push(code) },
  });
  // A client sends its variables anew with each connection, so it is enough to keep the cursor in them.
  socket.keep = (cursor) => (socket.variables.after = cursor);
  const events = { ...follower("graphql-sse with `after`"), dials: 0 };
  events.client = createSseClient({ url: weft.graphql, headers: { authorization: weft.bearer }, on: { connected: () => (events.dials += 1) } });
  events.keep = (cursor) => (events.variables.after = cursor);
  const resumed = { ...follower("graphql-sse with `Last-Event-ID`"), dials: 0 };
  resumed.client = createSseClient({
    url: weft.graphql,
    headers: () => ({ authorization: weft.bearer, ...(resumed.last && { "last-event-id": resumed.last }) }),
    on: { connected: () => (resumed.dials += 1) },
  });
  resumed.keep = (cursor) => (resumed.last = cursor);
  return { socket, all: [socket, events, resumed] };
}

/** To the end of the run; `atHalf` when all has come that there is until the gate opens. */
async function follow({ client, variables, events, keep }, atHalf) {
  let waiting = true;
  for await (const { data, errors } of client.iterate({ query: CONVERSATION, variables })) {
    assert.equal(errors, undefined, JSON.stringify(errors));
    const event = data.conversationEvents;
    events.push(event);
    keep(event.cursor);
    if (waiting && joined(events) === HALF) {
      waiting = false;
      atHalf();
    }
    if (isEnd(event)) return;
  }
  assert.fail("the stream ended before the run");
}

async function through(signal, closing) {
  const weft = await Weft.start();
  try {
    const sent = await weft.halves("restart");
    const { socket, all } = followers(weft, sent);
    const halves = [];
    const ends = all.map((follower) => {
      let end;
      halves.push(
        new Promise((half, never) => {
          end = follow(follower, half).catch((error) => {
            never(error);
            throw error;
          });
          end.catch(() => {});
        }),
      );
      return end;
    });
    await Promise.all(halves);
    const halted = weft.halt(signal);
    // A server that is told to end lets a model finish its answer; of one that is killed, another attempt says it again.
    await sent.open();
    await halted;
    await weft.launch();
    await Promise.all(ends);
    for (const { name, events, dials } of all) {
      assertWhole(events);
      assert(dials > 1, `${name} was never away`);
      // Pieces of text that were told while one was away may come joined; all else comes as it came to the others.
      const rest = (all) => all.filter(({ __typename }) => __typename !== "TextDelta").map(({ cursor }) => cursor);
      assert.deepEqual(rest(events), rest(socket.events), `${name} saw something else than graphql-ws`);
    }
    assert.equal(socket.closings[0], closing);
    const again = socket.events.some(({ __typename }) => __typename === "StepRestarted");
    assert.equal(again, signal === "SIGKILL", "what was lost is said again, and nothing else");
    for (const { client } of all) client.dispose();
  } finally {
    await weft.stop();
  }
}

describe("in the middle of an answer", { concurrency: true }, () => {
  test("the server is killed", () => through("SIGKILL", 1006));
  test("the server is told to end: sockets are closed with 1012", () => through("SIGTERM", 1012));
});
