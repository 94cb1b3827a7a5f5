// That the lints see something, and that the exceptions are no wider than they say.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const SOUND = `
  """What can be asked for."""
  type Query {
    """One of them."""
    node(id: ID!): Node
    """All of them."""
    things(first: Int, after: String, last: Int, before: String): ThingConnection!
  }
  """Has an id."""
  interface Node { id: ID! }
  """A thing."""
  type Thing implements Node { id: ID! thingName: String names: [String!]! }
  """A page."""
  type ThingConnection { edges: [ThingEdge!]! nodes: [Thing!]! pageInfo: PageInfo! }
  """A place."""
  type ThingEdge { cursor: String! node: Thing! }
  """Where a page stands."""
  type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
`;

/** A fault for each of these rules: a piece of the sound schema, and what takes its place. */
const FAULTS = {
  "require-description": ['"""Has an id."""', ""],
  "no-unreachable-types": ['"""A page."""', '"""Nobody answers it."""\n  enum Lost { A }\n  """A page."""'],
  "naming-convention": ["names: [String!]!", "all_names: [String!]!"],
  "require-deprecation-reason": ["thingName: String", "thingName: String @deprecated"],
  "relay-arguments": ["first: Int, ", ""],
  "relay-page-info": ["hasNextPage: Boolean!", "hasNextPage: Boolean"],
  "relay-connection-types": ["pageInfo: PageInfo!", "pageInfo: PageInfo"],
  "relay-edge-types": ["cursor: String! node: Thing!", "cursor: String! node: [Thing!]!"],
};

const changed = (sdl, [piece, by]) => {
  assert(sdl.includes(piece), piece);
  return sdl.replace(piece, by);
};

const LINT = fileURLToPath(new URL("lint.mjs", import.meta.url));

const folder = await mkdtemp(join(tmpdir(), "weft-lint-"));
after(() => rm(folder, { recursive: true }));

/** The rules that are broken, and how the program ended. */
async function broken(name, sdl) {
  const file = join(folder, `${name}.graphql`);
  await writeFile(file, sdl);
  return new Promise((resolve) =>
    execFile(process.execPath, [LINT, file], (error, said) =>
      resolve({ status: error?.code ?? 0, rules: [...new Set([...said.matchAll(/\(@graphql-eslint\/([a-z-]+)\)$/gm)].map(([, rule]) => rule))] }),
    ),
  );
}

test("nothing in a sound schema, whose plain lists, pages without an id and repeated names are meant", async () => {
  assert.deepEqual(await broken("sound", SOUND), { status: 0, rules: [] });
});

test("nodes of a list have an id", async () => {
  const { status, rules } = await broken("node", changed(SOUND, ["type Thing implements Node", "type Thing"]));
  assert.equal(status, 1);
  assert(rules.includes("relay-edge-types"), rules.join());
});

test("what each of the rules is about is found", async () => {
  const { status, rules } = await broken("faulty", Object.values(FAULTS).reduce(changed, SOUND));
  assert.equal(status, 1);
  assert.deepEqual(rules.sort(), Object.keys(FAULTS).sort());
});
