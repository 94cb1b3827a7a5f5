// Apollo Client as published, without React: queries, mutations, pages, subscriptions over both of its transports, persisted queries.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { ApolloClient, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { relayStylePagination } from "@apollo/client/utilities";
import { print } from "graphql";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { Raw } from "./raw.mjs";
import { CONVERSATION, Cable, FIRST, HALF, RUN, SECOND, Weft, assertWhole, isEnd, joined, test, until } from "./weft.mjs";

let weft, cable, quiet;
before(async () => {
  weft = await Weft.start();
  cable = await Cable.lay(weft);
  // What takes its time begins now, and the last test sees how it went.
  quiet = { wire: "", sent: await weft.halves("quiet") };
  const overheard = async (url, options) => {
    const response = await fetch(url, options);
    const decoder = new TextDecoder();
    const ear = new TransformStream({ transform: (bytes, on) => ((quiet.wire += decoder.decode(bytes, { stream: true })), on.enqueue(bytes)) });
    return new Response(response.body.pipeThrough(ear), response);
  };
  quiet.followed = follow(connect(http({ fetch: overheard })), CONVERSATION, { id: quiet.sent.id, after: quiet.sent.cursor });
  quiet.followed.catch(() => {});
});
after(async () => {
  cable?.close();
  await weft?.stop();
});

const cacheOf = () => new InMemoryCache({ typePolicies: { Query: { fields: { agents: relayStylePagination(["filter", "orderBy"]) } } } });
const http = (options = {}) => new HttpLink({ uri: weft.graphql, headers: { authorization: weft.bearer }, ...options });
const connect = (link = http()) => new ApolloClient({ cache: cacheOf(), link });

const AGENTS = gql`
  query Agents($first: Int!, $after: Cursor) {
    agents(first: $first, after: $after) {
      edges { cursor node { id name } }
      pageInfo { hasNextPage endCursor }
    }
  }
`;
const RENAME = gql`
  mutation Rename($input: UpdateAgentInput!) {
    updateAgent(input: $input) { agent { id name } errors { code message } }
  }
`;

/** Everything that a subscription tells; `see` looks at each event and says whether it was enough. */
function follow(client, query, variables, see = isEnd) {
  const field = query === RUN ? "runEvents" : "conversationEvents";
  const events = [];
  return new Promise((resolve, reject) => {
    const subscription = client.subscribe({ query: gql(query), variables }).subscribe({
      next({ data, error }) {
        if (error) return reject(error);
        events.push(data[field]);
        if (see(events.at(-1), events)) {
          subscription.unsubscribe();
          resolve(events);
        }
      },
      error: reject,
      complete: () => resolve(events),
    });
  });
}

test("queries, and a mutation brings what was queried up to date", async () => {
  const id = await weft.agentThatSays("renamed", []);
  const client = connect();
  const seen = [];
  const watching = client
    .watchQuery({ query: gql`query One($id: ID!) { agent(id: $id) { id name } }`, variables: { id } })
    .subscribe(({ data }) => data && seen.push(data.agent.name));
  await until("the name", () => seen.length);
  const { data } = await client.mutate({ mutation: RENAME, variables: { input: { id, name: "Heddle" } } });
  assert.deepEqual(data.updateAgent.errors, []);
  await until("the other name", () => seen.length === 2);
  watching.unsubscribe();
  assert.deepEqual(seen, ["renamed", "Heddle"]);
});

test("asks by GET where it is told to", async () => {
  const asked = [];
  const client = connect(http({ useGETForQueries: true, fetch: (url, options) => (asked.push(options.method), fetch(url, options)) }));
  const { data } = await client.query({ query: gql`query Role { viewer { role } }` });
  assert.deepEqual([asked, data.viewer.role], [["GET"], "OWNER"]);
});

test("a refusal of a mutation is data; what is wrong with a request is an error with its code", async () => {
  const client = connect();
  const { data } = await client.mutate({ mutation: RENAME, variables: { input: { id: "nonsense", name: "x" } } });
  assert.equal(data.updateAgent.agent, null);
  assert.equal(data.updateAgent.errors.length, 1);
  for (const [query, link, code] of [
    [gql`query Nothing { nothing }`, http(), "INVALID_INPUT"],
    [gql`query Role { viewer { role } }`, http({ headers: { authorization: "Bearer nonsense" } }), "UNAUTHENTICATED"],
  ]) {
    const error = await connect(link).query({ query }).then(() => assert.fail("it was answered"), (error) => error);
    assert(CombinedGraphQLErrors.is(error), `${error}`);
    assert.equal(error.errors[0].extensions.code, code);
  }
});

test("pages through a list, which its cache makes one", async () => {
  const names = [];
  for (let at = 0; at < 5; at += 1) names.push((await weft.done("createAgent", { name: `page ${at}`, instructions: "." }, "agent { name }")).agent.name);
  const client = connect();
  const list = client.watchQuery({ query: AGENTS, variables: { first: 2 } });
  const watching = list.subscribe(() => {});
  await until("the first page", () => list.getCurrentResult().data?.agents);
  let { pageInfo } = list.getCurrentResult().data.agents;
  let pages = 1;
  for (; pageInfo.hasNextPage; pages += 1) ({ pageInfo } = (await list.fetchMore({ variables: { after: pageInfo.endCursor } })).data.agents);
  await until("the last page", () => !list.getCurrentResult().data.agents.pageInfo.hasNextPage);
  const { edges } = list.getCurrentResult().data.agents;
  watching.unsubscribe();
  const { agents } = await weft.ask("{ agents(first: 100) { nodes { id } totalCount } }");
  assert(pages > 2, `${pages} pages`);
  assert.deepEqual(edges.map(({ node }) => node.id), agents.nodes.map(({ id }) => id));
  assert.deepEqual(names.filter((name) => !edges.some(({ node }) => node.name === name)), []);
});

test("subscribes over HTTP, in parts", async () => {
  let type;
  const client = connect(
    http({
      fetch: async (url, options) => {
        const response = await fetch(url, options);
        type = response.headers.get("content-type");
        return response;
      },
    }),
  );
  const agentId = await weft.agentThatSays("parts", [...FIRST, ...SECOND]);
  const sent = await weft.send({ agentId, text: "In parts." });
  // To the end of the run, where the stream is complete by itself.
  assertWhole(await follow(client, RUN, { id: sent.run.id }, () => false));
  assert.match(type, /^multipart\/mixed\b/);
});

test("each part is there at once, not when the next one comes", async () => {
  const sent = await weft.halves("at-once");
  const began = Date.now();
  const events = await follow(connect(), CONVERSATION, { id: sent.id, after: sent.cursor }, (event, events) => {
    // The answer goes on only when this has been seen.
    if (event.__typename === "TextDelta" && joined(events) === HALF) sent.open();
    return isEnd(event);
  });
  assertWhole(events);
  // Not by the next heartbeat either.
  assert(Date.now() - began < 10_000, "it took too long");
});

test("goes on from the last cursor after the line was cut in the middle of a part", async () => {
  const sent = await weft.halves("cut");
  const variables = { id: sent.id, after: sent.cursor };
  const events = [];
  await assert.rejects(
    follow(connect(http({ uri: cable.graphql })), CONVERSATION, variables, (event) => {
      events.push(event);
      if (joined(events) === HALF) cable.cut();
    }),
  );
  await sent.open();
  assertWhole([...events, ...(await follow(connect(), CONVERSATION, { ...variables, after: events.at(-1).cursor }))]);
});

test("a subscription over HTTP that is refused says why", async () => {
  for (const [query, variables, code] of [
    [CONVERSATION, { id: quiet.sent.run.id }, "NOT_FOUND"],
    [CONVERSATION, { id: quiet.sent.id, after: "nonsense" }, "INVALID_INPUT"],
    ["subscription { nothing }", {}, "INVALID_INPUT"],
  ]) {
    const error = await follow(connect(), query, variables).then((events) => assert.fail(`it was answered: ${JSON.stringify(events)}`), (error) => error);
    const [{ extensions }] = error.errors ?? assert.fail(`${error}`);
    assert.equal(extensions.code, code);
  }
});

test("subscribes over a WebSocket", async () => {
  const socket = createClient({ url: weft.socket, webSocketImpl: WebSocket, connectionParams: { Authorization: weft.bearer } });
  const client = connect(new GraphQLWsLink(socket));
  const agentId = await weft.agentThatSays("socket", [...FIRST, ...SECOND]);
  const sent = await weft.send({ agentId, text: "By socket." });
  assertWhole(await follow(client, RUN, { id: sent.run.id }, () => false));
  await socket.dispose();
});

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const TRUSTED = gql`query Trusted { service { needsSetup } }`;
const OTHER = gql`query Other { service { name } }`;
/** As Apollo sends it. */
const textOf = (document) => print(new InMemoryCache().transformDocument(document));

/** A server with a folder of one trusted document. */
async function trusting(mode, work) {
  const folder = await mkdtemp(join(tmpdir(), "weft-documents-"));
  await writeFile(join(folder, "trusted.graphql"), textOf(TRUSTED));
  const setUp = `mutation ($input: SetUpInput!) { setUp(input: $input) { accessToken refreshToken viewer { user { email } role } errors { code message } } }`;
  await writeFile(join(folder, "set-up.graphql"), setUp);
  const server = await Weft.start({ TRUSTED_DOCUMENTS__FOLDER: folder, TRUSTED_DOCUMENTS__MODE: mode });
  try {
    await work(server);
  } finally {
    await server.stop();
    await rm(folder, { recursive: true });
  }
}

/** A client with the stock link, and what it sent. */
function persisting(server) {
  const sent = [];
  const client = connect(
    new PersistedQueryLink({ sha256 }).concat(
      http({
        uri: server.graphql,
        headers: { authorization: server.bearer },
        fetch: (url, options) => (sent.push(JSON.parse(options.body)), fetch(url, options)),
      }),
    ),
  );
  return { client, sent };
}

test("persisted queries: one that is trusted is asked for by its digest alone", async () => {
  await trusting("require", async (server) => {
    const { client, sent } = persisting(server);
    const { data } = await client.query({ query: TRUSTED });
    assert.deepEqual(data.service.needsSetup, false);
    assert.deepEqual(sent.map(({ query, extensions }) => [query, extensions.persistedQuery.sha256Hash]), [[undefined, sha256(textOf(TRUSTED))]]);
    // Another is unknown by its digest, and refused by its text.
    const error = await client.query({ query: OTHER }).then(() => assert.fail("it was answered"), (error) => error);
    assert.equal(error.errors[0].extensions.code, "FORBIDDEN");
    assert.equal(sent.length, 3);
    // So is what is no document at all: it is not read.
    const { errors } = await server.post("nonsense {");
    assert.equal(errors[0].extensions.code, "FORBIDDEN");
    // The same document by its id, in a body and in an address, which a cache in front can keep.
    const documentId = `sha256:${sha256(textOf(TRUSTED))}`;
    const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ documentId }) };
    for (const asked of [fetch(server.graphql, options), fetch(`${server.graphql}?${new URLSearchParams({ documentId })}`)]) {
      assert.equal((await (await asked).json()).data.service.needsSetup, false);
    }
    // By GET, as the stock link does where it is told to.
    const methods = [];
    const overheard = http({
      uri: server.graphql,
      headers: { authorization: server.bearer },
      fetch: (url, options) => (methods.push(options.method), fetch(url, options)),
    });
    const getting = connect(new PersistedQueryLink({ sha256, useGETForHashedQueries: true }).concat(overheard));
    assert.equal((await getting.query({ query: TRUSTED })).data.service.needsSetup, false);
    assert.deepEqual(methods, ["GET"]);
    // What goes over a socket is trusted, or not, in the same way. Its stock client sends texts only.
    const socket = createClient({ url: server.socket, webSocketImpl: WebSocket, connectionParams: { Authorization: server.bearer } });
    const { value } = await socket.iterate({ query: textOf(TRUSTED) }).next();
    assert.equal(value.data.service.needsSetup, false);
    const [refused] = await socket.iterate({ query: textOf(OTHER) }).next().then(({ value }) => value.errors, (errors) => errors);
    assert.equal(refused.extensions.code, "FORBIDDEN");
    const raw = await Raw.initialised(server);
    raw.send({ id: "1", type: "subscribe", payload: { documentId } });
    assert.equal((await raw.next()).payload.data.service.needsSetup, false);
    await raw.close();
    await socket.dispose();
  });
});

test("persisted queries: where others are logged, the client falls back to the text", async () => {
  await trusting("log", async (server) => {
    const { client, sent } = persisting(server);
    const { data } = await client.query({ query: OTHER });
    assert.equal(typeof data.service.name, "string");
    assert.deepEqual(sent.map(({ query }) => query !== undefined), [false, true]);
  });
});

test("persisted queries: a server without trusted documents says so once, and is not asked for them again", async () => {
  const { client, sent } = persisting(weft);
  for (const query of [TRUSTED, OTHER]) assert((await client.query({ query })).data.service);
  assert.deepEqual(sent.map(({ query }) => query !== undefined), [false, true, true]);
});

test("a subscription over HTTP in which nothing happens has a heartbeat, which is no event", async () => {
  await until("the heartbeat", () => quiet.wire.includes("\r\n\r\n{}\r\n--graphql"));
  await quiet.sent.open();
  assertWhole(await quiet.followed);
});
