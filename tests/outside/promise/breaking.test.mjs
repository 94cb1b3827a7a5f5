// What `breaking.mjs` says of schemas that are made up.
import assert from "node:assert/strict";
import { test } from "node:test";
import { announced, compare } from "./breaking.mjs";

const TODAY = "2030-05-15";
const RELEASED = `
  "What can be asked for."
  type Query { agent(id: ID, slug: String): Agent  old: Int @deprecated(reason: "Ask for agent. Stays until 2030-05-16.") }
  type Agent { id: ID! name: String! slug: String }
  enum State { ON OFF }
  input Change { id: ID! state: State }
`;

/** The released schema with a piece of it replaced. */
const changed = (piece, by) => {
  assert(RELEASED.includes(piece), piece);
  return RELEASED.replace(piece, by);
};
const look = (current, lines = "", today = TODAY) =>
  compare({ released: RELEASED, current, changelog: `# Changes\n\n## Unreleased\n\n${lines}\n`, today });

/** Fails without an announcement of just this, passes with it. */
async function breaks(current, coordinate) {
  const { failures } = await look(current);
  assert.equal(failures.length, 1, failures.join("\n"));
  assert.match(failures[0], new RegExp(`^${coordinate.replaceAll(".", "\\.")}: .*does not announce`));
  assert.deepEqual((await look(current, `- **Breaking**: \`${coordinate}\` is another now.`)).failures, []);
}

test("the same schema breaks nothing", async () => {
  assert.deepEqual(await look(RELEASED), { failures: [], dangerous: [] });
});

test("what goes has to be announced", async () => {
  await breaks(changed("slug: String }", "}"), "Agent.slug");
  await breaks(changed("ON OFF", "ON"), "State.OFF");
  await breaks(changed(", slug: String)", ")"), "Query.agent.slug");
  await breaks(changed("state: State }", "}"), "Change.state");
});

test("a type that goes or is another has to be announced", async () => {
  await breaks(changed("name: String!", "name: Int!"), "Agent.name");
  await breaks(changed("name: String!", "name: String"), "Agent.name");
  await breaks(changed("agent(id: ID,", "agent(id: ID!,"), "Query.agent.id");
  await breaks(changed("state: State }", "state: State! }"), "Change.state");
  await breaks(changed("state: State }", "state: State more: Int! }"), "Change.more");
  await breaks(changed("input Change { id: ID! state: State }", ""), "Change");
});

test("what is added is free, and listed where a client may not have thought of it", async () => {
  assert.deepEqual(await look(changed("name: String!", "name: String! more: Int")), { failures: [], dangerous: [] });
  const { failures, dangerous } = await look(changed("ON OFF", "ON OFF NEITHER"));
  assert.deepEqual(failures, []);
  assert.match(dangerous.join(), /State\.NEITHER/);
});

test("descriptions may change", async () => {
  assert.deepEqual(await look(changed("What can be asked for.", "Questions.")), { failures: [], dangerous: [] });
});

test("only the section of the next release announces, and only by the names at the head of a line", async () => {
  const gone = changed("slug: String }", "}");
  const says = async (changelog) => (await compare({ released: RELEASED, current: gone, changelog, today: TODAY })).failures.length;
  const line = "- **Breaking**: `Agent.slug` is gone.";
  assert.equal(await says(`## Unreleased\n\n${line}\n\n## 1.0.0\n`), 0);
  assert.equal(await says(`## Unreleased\n\n- Faster.\n\n## 1.0.0\n\n${line}\n`), 1);
  assert.equal(await says("## Unreleased\n\n- **Breaking**: read `Agent.slug` no more.\n"), 1);
  assert.equal(await says("## Unreleased\n\n- `Agent.slug` is gone.\n"), 1);
  assert.equal(await says(""), 1);
  assert.deepEqual([...announced("## Unreleased\n- **Breaking**: `A.b`, `C` and `D.e.f` go: use `G`.\n")], ["A.b", "C", "D.e.f"]);
});

test("what is announced and does not break is an error of the announcement", async () => {
  const { failures } = await look(RELEASED, "- **Breaking**: `Agent.slugs` is gone.");
  assert.match(failures.join(), /^Agent\.slugs: .*it does not/);
});

test("nothing goes before its day", async () => {
  const gone = RELEASED.replace(/old: Int @deprecated\(.*?\)/, "");
  const line = "- **Breaking**: `Query.old` is gone.";
  assert.match((await look(gone, line, "2030-05-15")).failures.join(), /stays until 2030-05-16/);
  assert.deepEqual((await look(gone, line, "2030-05-16")).failures, []);
  assert.match((await look(gone, "", "2030-05-16")).failures.join(), /does not announce/);
});

test("a deprecation gives twelve months, and takes none of them back", async () => {
  const deprecated = (reason) => changed("name: String!", `name: String! @deprecated(reason: "${reason}")`);
  assert.match((await look(deprecated("No use."))).failures.join(), /^Agent\.name: .*names no day/);
  assert.match((await look(deprecated("Stays until 2031-05-14."))).failures.join(), /^Agent\.name: .*less than 12 months/);
  assert.deepEqual((await look(deprecated("Stays until 2031-05-15."))).failures, []);
  assert.match((await look(changed("2030-05-16", "2030-05-15"))).failures.join(), /^Query\.old: was to stay until 2030-05-16/);
  assert.deepEqual((await look(changed("2030-05-16", "2031-01-01"))).failures, []);
  for (const [at, current] of [
    ["State.OFF", changed("ON OFF", 'ON OFF @deprecated(reason: "No use.")')],
    ["Query.agent.slug", changed(", slug: String)", ', slug: String @deprecated(reason: "No use."))')],
    ["Change.state", changed("state: State }", 'state: State @deprecated(reason: "No use.") }')],
  ]) {
    assert.match((await look(current)).failures.join(), new RegExp(`^${at}: .*names no day`));
  }
});
