// Relay's runtime as published, without React: its network layer and store, with what its compiler made of `relay/documents.js`. The
// artifacts are committed, since the compiler is 120 MB; `npm run relay` makes them anew.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before } from "node:test";
import { buildClientSchema, getIntrospectionQuery, parse, validate } from "graphql";
import { createClient } from "graphql-ws";
import relay from "relay-runtime";
import WebSocket from "ws";
import { FIRST, SECOND, Weft, assertWhole, isEnd, test } from "./weft.mjs";

const { Environment, Network, Observable, RecordSource, Store, commitMutation, createOperationDescriptor, fetchQuery, getSingularSelector, requestSubscription } = relay;
const require = createRequire(import.meta.url);
const artifact = (name) => require(`./relay/artifacts/${name}.graphql.js`);

let weft, socket;
before(async () => {
  weft = await Weft.start();
  socket = createClient({ url: weft.socket, webSocketImpl: WebSocket, connectionParams: { Authorization: weft.bearer } });
});
after(async () => {
  await socket?.dispose();
  await weft?.stop();
});

/** An environment, and which operations went over its network. */
function connect() {
  const asked = [];
  const network = Network.create(
    async ({ name, text }, variables) => {
      asked.push(name);
      const response = await fetch(weft.graphql, {
        method: "POST",
        headers: { accept: "application/graphql-response+json", "content-type": "application/json", authorization: weft.bearer },
        body: JSON.stringify({ query: text, operationName: name, variables }),
      });
      return response.json();
    },
    ({ name, text }, variables) => Observable.create((sink) => socket.subscribe({ query: text, operationName: name, variables }, sink)),
  );
  return { environment: new Environment({ network, store: new Store(new RecordSource()) }), asked };
}

/** What a fragment reads of the store. */
const read = (environment, fragment, reference) => environment.lookup(getSingularSelector(fragment, reference)).data;

test("what the compiler made is of this schema", async () => {
  const schema = buildClientSchema(await weft.ask(getIntrospectionQuery()));
  const names = (await readdir(new URL("relay/artifacts", import.meta.url))).filter((name) => name.endsWith(".graphql.js"));
  const texts = names.map((name) => require(`./relay/artifacts/${name}`).params?.text).filter(Boolean);
  assert.equal(texts.length, 5);
  for (const text of texts) assert.deepEqual(validate(schema, parse(text)), [], text);
});

test("a connection grows page by page in the store", async () => {
  for (let at = 0; at < 5; at += 1) await weft.done("createAgent", { name: `page ${at}`, instructions: "." }, "agent { id }");
  const { environment, asked } = connect();
  const first = artifact("AgentsPageQuery");
  const variables = { count: 2, cursor: null };
  const reference = await fetchQuery(environment, first, variables).toPromise();
  // The store keeps what somebody holds.
  const held = environment.retain(createOperationDescriptor(first, variables));
  const list = () => read(environment, artifact("AgentsPage_query"), reference).agents;
  assert.equal(list().edges.length, 2);
  while (list().pageInfo.hasNextPage) {
    await fetchQuery(environment, artifact("AgentsPageMoreQuery"), { count: 2, cursor: list().pageInfo.endCursor }).toPromise();
  }
  const { agents } = await weft.ask("{ agents(first: 100) { nodes { id } } }");
  assert.deepEqual(list().edges.map(({ node }) => node.id), agents.nodes.map(({ id }) => id));
  assert.deepEqual(asked, ["AgentsPageQuery", "AgentsPageMoreQuery", "AgentsPageMoreQuery"]);
  held.dispose();
});

test("a fragment is fetched again by `node`, and the store is one", async () => {
  const { agent } = await weft.done("createAgent", { name: "a heddle", instructions: ".", description: "holds the warp" }, "agent { id }");
  const { environment, asked } = connect();
  const refetch = artifact("AgentCardRefetchQuery");
  const variables = { id: agent.id };
  const card = async () => {
    const { node } = await fetchQuery(environment, refetch, variables, { fetchPolicy: "network-only" }).toPromise();
    return read(environment, artifact("AgentCard_agent"), node);
  };
  const held = environment.retain(createOperationDescriptor(refetch, variables));
  assert.deepEqual(await card(), { id: agent.id, name: "a heddle", description: "holds the warp" });
  // Somebody else changes it.
  await weft.done("updateAgent", { id: agent.id, name: "another heddle" }, "agent { id }");
  assert.equal((await card()).name, "another heddle");
  // A mutation of one's own reaches the same record.
  const seen = [];
  const { node } = await fetchQuery(environment, refetch, variables).toPromise();
  const snapshot = environment.lookup(getSingularSelector(artifact("AgentCard_agent"), node));
  const watching = environment.subscribe(snapshot, ({ data }) => seen.push(data.name));
  await new Promise((resolve, reject) =>
    commitMutation(environment, {
      mutation: artifact("RenameAgentMutation"),
      variables: { input: { id: agent.id, name: "a reed" } },
      onCompleted: (data, errors) => (errors ? reject(errors) : resolve(data)),
      onError: reject,
    }),
  );
  assert.deepEqual(seen, ["a reed"]);
  assert.deepEqual(asked, [...Array(3).fill("AgentCardRefetchQuery"), "RenameAgentMutation"]);
  watching.dispose();
  held.dispose();
});

test("`node` of what is not there is null", async () => {
  const { environment } = connect();
  for (const id of ["nonsense", "agent_01m8meevc3ej6b1712p33wfky1"]) {
    assert.equal((await fetchQuery(environment, artifact("AgentCardRefetchQuery"), { id }).toPromise()).node, null, id);
  }
});

test("an error of the request reaches who asked", async () => {
  const { environment } = connect();
  const error = await fetchQuery(environment, artifact("AgentsPageQuery"), { count: 1000, cursor: null })
    .toPromise()
    .then(() => assert.fail("it was answered"), (error) => error);
  assert.equal(error.source?.errors[0].extensions.code, "INVALID_INPUT", `${error}`);
});

test("subscribes, and the store knows what was told", async () => {
  const agentId = await weft.agentThatSays("relay", [...FIRST, ...SECOND]);
  const { run } = await weft.send({ agentId, text: "What does a loom hold?" });
  const { environment } = connect();
  const events = [];
  await new Promise((resolve, reject) =>
    requestSubscription(environment, {
      subscription: artifact("RunSubscription"),
      variables: { runId: run.id, after: null },
      onNext: ({ runEvents }) => events.push(runEvents),
      onCompleted: resolve,
      onError: reject,
    }),
  );
  // The fragments of an event are read where they fit.
  assertWhole(events.map((event) => (event.__typename === "TextDelta" ? { ...event, part: 0 } : event)));
  assert(isEnd(events.at(-1)));
});
