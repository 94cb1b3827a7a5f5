// What the page makes of subscriptions and of the pieces of an answer, tried without a browser.
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { buildSchema, parse, validate } from "graphql";

/** A module of `src/`, made into what this can import: beside the packages, so that it has the same ones. */
async function source(name) {
  const here = dirname(fileURLToPath(import.meta.url));
  const outfile = join(here, "node_modules", ".tested", `${name}.mjs`);
  await build({ absWorkingDir: here, entryPoints: [`src/${name}.ts`], outfile, bundle: true, packages: "external", format: "esm", platform: "node", logLevel: "warning" });
  return import(outfile);
}

const { heard } = await source("text");
const { prepare, read } = await source("subscription");

const delta = (messageId, part, offset, text) => ["TextDelta", { messageId, part, offset, text }];
const listen = (...events) => events.reduce((parts, [kind, event]) => heard(parts, kind, event), []).map(({ message, part, text }) => `${message}/${part}: ${text}`);

test("pieces are joined by message and part", () => {
  assert.deepEqual(listen(delta("a", 0, 0, "The "), delta("b", 0, 0, "Other"), delta("a", 0, 4, "loom"), delta("a", 1, 0, "Part")), ["a/0: The loom", "b/0: Other", "a/1: Part"]);
});

test("a piece that is known already is not said twice", () => {
  assert.deepEqual(listen(delta("a", 0, 0, "The "), delta("a", 0, 4, "🧵 loom"), delta("a", 0, 4, "🧵 loom"), delta("a", 0, 11, "!")), ["a/0: The 🧵 loom!"]);
});

test("where the beginning was missed, positions still hold", () => {
  assert.deepEqual(listen(delta("a", 0, 100, "mid"), delta("a", 0, 103, "dle"), delta("a", 0, 103, "dle")), ["a/0: middle"]);
});

test("a step that is said again drops what it had said", () => {
  const restarted = ["StepRestarted", { messageId: "a", fromPart: 1 }];
  assert.deepEqual(listen(delta("a", 0, 0, "kept"), delta("a", 1, 0, "dropped"), delta("b", 1, 0, "other"), restarted, delta("a", 1, 0, "new")), ["a/0: kept", "b/1: other", "a/1: new"]);
});

test("what says nothing to the text changes nothing", () => {
  const parts = heard([], ...delta("a", 0, 0, "x"));
  assert.equal(heard(parts, "RunStarted", { runId: "r" }), parts);
  assert.equal(heard(parts, "MessageCreated", { text: "not a piece" }), parts);
});

const schema = buildSchema(`
  scalar Cursor
  interface Event { cursor: Cursor! }
  type Said implements Event { cursor: Cursor! text: String! }
  type Query { a: Int }
  type Subscription { events(after: Cursor, of: ID!): Event! ticks: Int! }
`);
const made = (query, variables, operationName) => {
  const subscription = prepare({ query, variables, operationName }, schema);
  assert.deepEqual(validate(schema, parse(subscription.query)).map(String), [], subscription.query);
  return subscription;
};

test("`after` becomes a variable, whatever was given", () => {
  const none = made('subscription { events(of: "x") { cursor } }');
  assert.deepEqual([none.root, none.after, none.variables], ["events", "weftAfter", {}]);
  const literal = made('subscription S($of: ID!) { mine: events(after: "c1", of: $of) { ... on Said { text } } }', { of: "x" });
  assert.deepEqual([literal.root, literal.after, literal.variables], ["mine", "weftAfter", { of: "x", weftAfter: "c1" }]);
  const variable = made('subscription ($from: Cursor) { events(after: $from, of: "x") { cursor } }', { from: "c1" });
  assert.deepEqual([variable.after, variable.variables], ["from", { from: "c1" }]);
  const inFragment = made('subscription { ...F } fragment F on Subscription { events(of: "x") { ... on Said { text } } }');
  assert.deepEqual([inFragment.root, inFragment.after], ["events", "weftAfter"]);
  const other = made("subscription { ticks }");
  assert.deepEqual([other.root, other.after], ["ticks", null]);
});

test("without a schema only what the document has is used", () => {
  const asked = { query: "subscription { events(of: 1) { text } }" };
  assert.deepEqual([prepare(asked).after, prepare(asked).query.includes("weft")], [null, false]);
});

test("the operation that is named is the one", () => {
  const both = 'subscription A { ticks } subscription B { events(of: "x") { cursor } }';
  assert.equal(made(both, {}, "B").root, "events");
  assert.equal(made(both, {}, "A").root, "ticks");
});

test("what the page asked for besides is taken out again", () => {
  const subscription = made('subscription { events(of: "x") { ... on Said { text } } }');
  const told = read(subscription, { events: { text: "t", weftCursor: "c2", weftKind: "Said" } });
  assert.deepEqual(told, { event: { text: "t" }, kind: "Said", cursor: "c2" });
  assert.equal(read(subscription, { events: null }), null);
});
