// urql's core as published: over HTTP, and its subscriptions over a WebSocket, over server-sent events, and by its own fetch exchange.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { Client, cacheExchange, fetchExchange, gql, subscriptionExchange } from "@urql/core";
import { createClient as createSseClient } from "graphql-sse";
import { createClient as createSocketClient } from "graphql-ws";
import WebSocket from "ws";
import { CONVERSATION, FIRST, HALF, RUN, SECOND, Weft, assertWhole, isEnd, joined, test, until } from "./weft.mjs";

let weft;
before(async () => (weft = await Weft.start()));
after(() => weft?.stop());

const connect = (exchanges = [], options = {}) =>
  new Client({
    url: weft.graphql,
    exchanges: [cacheExchange, ...exchanges, fetchExchange],
    fetchOptions: { headers: { authorization: weft.bearer } },
    preferGetMethod: false,
    ...options,
  });

/** Subscriptions by a client whose `subscribe` takes a request and a sink, as both of these do. */
const by = (client) =>
  subscriptionExchange({
    forwardSubscription: ({ query, variables }) => ({
      subscribe: (sink) => ({ unsubscribe: client.subscribe({ query, variables }, sink) }),
    }),
  });

/** Everything that a subscription tells, until `see` has seen enough or it is complete. */
function follow(client, query, variables, see = isEnd) {
  const field = query === RUN ? "runEvents" : "conversationEvents";
  const events = [];
  return new Promise((resolve, reject) => {
    const subscription = client.subscription(gql(query), variables).subscribe(({ data, error }) => {
      if (error) return reject(error);
      // The last event comes again when the stream is over, as one that nothing follows.
      if (data[field].cursor === events.at(-1)?.cursor) return;
      events.push(data[field]);
      if (!see(events.at(-1), events)) return;
      queueMicrotask(() => subscription.unsubscribe());
      resolve(events);
    });
  });
}

test("queries by POST and by GET, and a mutation brings what was queried up to date", async () => {
  const id = await weft.agentThatSays("renamed", []);
  for (const preferGetMethod of [false, "force"]) {
    const methods = [];
    const client = connect([], { preferGetMethod, fetch: (url, options) => (methods.push(options.method), fetch(url, options)) });
    const seen = [];
    const { unsubscribe } = client.query(gql`query One($id: ID!) { agent(id: $id) { id name } }`, { id }).subscribe(({ data, error }) => {
      assert.equal(error, undefined);
      seen.push(data.agent.name);
    });
    await until("the name", () => seen.length);
    const name = `Heddle ${preferGetMethod}`;
    const rename = gql`mutation Rename($input: UpdateAgentInput!) { updateAgent(input: $input) { agent { id name } errors { code } } }`;
    const { data } = await client.mutation(rename, { input: { id, name } });
    assert.deepEqual(data.updateAgent.errors, []);
    await until("the other name", () => seen.at(-1) === name);
    unsubscribe();
    assert.deepEqual(methods, preferGetMethod ? ["GET", "POST", "GET"] : ["POST", "POST", "POST"]);
  }
});

test("pages by cursor", async () => {
  const client = connect();
  for (let at = 0; at < 4; at += 1) await weft.done("createAgent", { name: `page ${at}`, instructions: "." }, "agent { name }");
  const page = gql`query Page($after: Cursor) { agents(first: 2, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }`;
  const ids = [];
  let after;
  for (let more = true; more; ) {
    const { data } = await client.query(page, { after });
    ids.push(...data.agents.nodes.map(({ id }) => id));
    ({ hasNextPage: more, endCursor: after } = data.agents.pageInfo);
  }
  const { agents } = await weft.ask("{ agents(first: 100) { nodes { id } } }");
  assert.deepEqual(ids, agents.nodes.map(({ id }) => id));
});

test("tells what is wrong, with its code", async () => {
  for (const [client, query, code] of [
    [connect(), gql`query Nothing { nothing }`, "INVALID_INPUT"],
    [connect([], { fetchOptions: { headers: { authorization: "Bearer nonsense" } } }), gql`query Role { viewer { role } }`, "UNAUTHENTICATED"],
  ]) {
    const { error } = await client.query(query, {});
    assert.equal(error.graphQLErrors[0]?.extensions.code, code, `${error}`);
  }
});

const ways = {
  "graphql-ws": () => {
    const client = createSocketClient({ url: weft.socket, webSocketImpl: WebSocket, connectionParams: { Authorization: weft.bearer } });
    return { client: connect([by(client)]), dispose: () => client.dispose() };
  },
  "graphql-sse": () => {
    const client = createSseClient({ url: weft.graphql, headers: { authorization: weft.bearer } });
    return { client: connect([by(client)]), dispose: () => client.dispose() };
  },
  "its fetch exchange": () => ({ client: connect([], { fetchSubscriptions: true }), dispose() {} }),
};

for (const [way, open] of Object.entries(ways)) {
  test(`follows an answer as it is given, through ${way}`, async () => {
    const { client, dispose } = open();
    const name = `gate-${way.replaceAll(/\W/g, "-")}`;
    const sent = await weft.halves(name);
    const events = await follow(client, CONVERSATION, { id: sent.id, after: sent.cursor }, (event, events) => {
      if (event.__typename === "TextDelta" && joined(events) === HALF) sent.open();
      return isEnd(event);
    });
    assertWhole(events);
    const error = await follow(client, CONVERSATION, { id: sent.run.id }).then(() => assert.fail("it was answered"), (error) => error);
    assert.equal(error.graphQLErrors[0]?.extensions.code, "NOT_FOUND", `${error}`);
    dispose();
  });
}
