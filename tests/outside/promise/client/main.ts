// A client of the kind that a third party writes, against WEFT_URL: it has a server set up, makes an agent, says something, follows
// the answer to its end and pages through its conversations. What it knows of Weft is what graphql-codegen made of the schema.
import assert from "node:assert/strict";
import {
  AgainDocument,
  BackendsDocument,
  CreateAgentDocument,
  FollowDocument,
  PagesDocument,
  SendDocument,
  ServerDocument,
  SetUpDocument,
  SignInDocument,
  type FollowSubscription,
  type PagesQuery,
  type PagesQueryVariables,
  type RefusedFragment,
} from "./generated.js";
import { Weft } from "./weft.js";

const weft = new Weft(process.env["WEFT_URL"] ?? "http://127.0.0.1:8080");

const EMAIL = "generated@example.test";
const PASSWORD = "tabby, twill and satin";
const SENTENCE = "A loom holds the warp, so that the weft can be drawn through it.";

/** What a mutation did, unless it was refused. */
function done<Payload extends { errors: Array<RefusedFragment> }>(payload: Payload): Payload {
  assert.deepEqual(payload.errors, []);
  return payload;
}

/** What can't be null here. */
function there<Value>(value: Value | null | undefined, what: string): Value {
  assert(value !== null && value !== undefined, `${what} is not there`);
  return value;
}

type Happened = FollowSubscription["conversationEvents"];

/** An answer as its events tell it. */
class Answer {
  readonly parts = new Map<number, string>();
  readonly kinds: Array<Happened["__typename"]> = [];
  finished: string | undefined;
  status: string | undefined;
  tokens = 0n;

  /** Whether it is over. */
  take(event: Happened): boolean {
    this.kinds.push(event.__typename);
    switch (event.__typename) {
      case "TextDelta": {
        const before = this.parts.get(event.part) ?? "";
        assert.equal(event.offset, before.length, "a piece is missing");
        this.parts.set(event.part, before + event.text);
        return false;
      }
      case "MessageCompleted":
        this.finished = there(event.message, "the message").text;
        return false;
      case "StepFinished":
        this.tokens += BigInt(event.result.usage.outputTokens);
        return false;
      case "RunCompleted":
        this.status = there(event.run, "the run").status;
        return true;
      case "RunFailed":
        assert.fail(`${event.error.kind}: ${event.error.message}`);
      case "RunCancelled":
        assert.fail("somebody stopped it");
      default:
        // Whatever else there is, now or later.
        return false;
    }
  }
}

/** One way through a list, page by page. */
async function pages(from: PagesQueryVariables, on: (page: PagesQuery["conversations"]) => PagesQueryVariables | undefined): Promise<string[][]> {
  const all: string[][] = [];
  for (let next: PagesQueryVariables | undefined = from; next; ) {
    const { conversations }: PagesQuery = await weft.ask(PagesDocument, next);
    assert.equal(conversations.totalCount, 5);
    assert.deepEqual(conversations.edges.map(({ node }) => node.id), conversations.nodes.map(({ id }) => id));
    all.push(conversations.nodes.map(({ id }) => id));
    next = on(conversations);
  }
  return all;
}

const { service } = await weft.ask(ServerDocument, {});
assert.equal(service.name, "Weft");
const signedIn = service.needsSetup
  ? done((await weft.ask(SetUpDocument, { input: { email: EMAIL, password: PASSWORD, name: "Generated", tenantName: "Generated" } })).setUp)
  : done((await weft.ask(SignInDocument, { input: { email: EMAIL, password: PASSWORD } })).signIn);
assert.deepEqual(signedIn.viewer, { role: "OWNER", user: { email: EMAIL } });
weft.use(there(signedIn.accessToken, "the token"));
assert.deepEqual((await weft.ask(BackendsDocument, {})).service.backends, { database: "SQLITE", bus: "MEMORY", objects: "FILESYSTEM", search: "EMBEDDED" });
console.log("ok      is set up, or signs in, and is told what the server is built on");

const { errors } = (await weft.ask(CreateAgentDocument, { input: { name: "x".repeat(201), instructions: "Answer." } })).createAgent;
const [refused] = errors;
assert(refused?.__typename === "InvalidInput", JSON.stringify(errors));
assert.deepEqual({ code: refused.code, path: refused.path, limit: refused.limit, actual: refused.actual }, { code: "INVALID_INPUT", path: ["input", "name"], limit: 200, actual: 201 });
console.log("ok      is told what it may not ask for, in a form of its own");

const agent = there(done((await weft.ask(CreateAgentDocument, { input: { name: "Weaver", instructions: "Answer in one sentence.", visibility: "PRIVATE" } })).createAgent).agent, "the agent");
assert.deepEqual({ version: agent.version.number, steps: agent.maxSteps, visibility: agent.visibility }, { version: 1, steps: 20, visibility: "PRIVATE" });
assert(!Number.isNaN(Date.parse(agent.createdAt)));

const sent = done((await weft.ask(SendDocument, { input: { agentId: agent.id, text: `${SENTENCE} What does a loom hold?`, clientId: "mine" } })).sendMessage);
const conversation = there(sent.conversation, "the conversation").id;
const answer = new Answer();
for await (const { conversationEvents } of weft.follow(FollowDocument, { conversation, after: there(sent.cursor, "the cursor") })) {
  if (answer.take(conversationEvents)) break;
}
const text = [...answer.parts.values()].join("");
assert.equal(answer.status, "COMPLETED");
assert.equal(text, answer.finished, "the pieces make another text than the finished message");
assert(text.includes(SENTENCE), text);
assert.equal(answer.kinds[0], "MessageCreated");
assert(answer.tokens > 0n);
console.log("ok      follows an answer to its end");

const { node } = await weft.ask(AgainDocument, { id: conversation });
assert(node?.__typename === "Conversation");
assert.equal(node.agent?.name, "Weaver");
assert.deepEqual(node.messages.nodes.map(({ role, clientId }) => [role, clientId]), [["USER", "mine"], ["ASSISTANT", null]]);
assert.deepEqual(node.messages.nodes[1]?.parts.map((part) => (part.__typename === "TextPart" ? part.text : part.__typename)), [text]);
assert.match(node.usage.cost, /^\d+(\.\d+)?$/);
console.log("ok      refetches a node");

for (let at = 2; at <= 5; at += 1) done((await weft.ask(SendDocument, { input: { agentId: agent.id, text: `Number ${at}.` } })).sendMessage);
const filter = { agentId: agent.id };
const forwards = await pages({ first: 2, filter }, ({ pageInfo }) => (pageInfo.hasNextPage ? { first: 2, after: pageInfo.endCursor, filter } : undefined));
const backwards = await pages({ last: 2, filter }, ({ pageInfo }) => (pageInfo.hasPreviousPage ? { last: 2, before: pageInfo.startCursor, filter } : undefined));
assert.deepEqual(forwards.map(({ length }) => length), [2, 2, 1]);
assert.deepEqual(backwards.reverse().flat(), forwards.flat(), "backwards it is another list");
assert.equal(new Set(forwards.flat()).size, 5);
assert.equal(forwards.flat().at(-1), conversation, "the oldest is not the last");
console.log("ok      pages through its conversations, both ways");

console.log("the generated client: 5 passed, 0 failed");
