// What graphql-js answers to the documents in graphql/tests/answers, over the schema and the data of graphql/sample's workshop.
// Compares with the answers that are committed beside the documents; with `--write`, writes them. The same for what it finds
// wrong with the documents and variables of graphql/tests/invalid.json.
import assert from "node:assert/strict";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { GraphQLError, buildSchema, execute, getVariableValues, parse, validate } from "graphql";

const folder = new URL("../../../graphql/tests/answers/", import.meta.url);
const write = process.argv.includes("--write");

/** A clock that goes on only when nothing else is left to do: a delay says what comes before what, and takes no time. */
const waiting = [];
let now = 0;
const after = (ms, then) => new Promise((resolve) => waiting.push({ at: now + ms, resolve })).then(then);
async function untilDone(promise) {
  let done = false;
  const end = () => (done = true);
  promise.then(end, end);
  for (;;) {
    await new Promise(setImmediate);
    if (done) return promise;
    assert(waiting.length > 0, "nothing is waited for, and there is no answer");
    waiting.sort((a, b) => a.at - b.at);
    const next = waiting.shift();
    now = next.at;
    next.resolve();
  }
}

const failed = (what) => new GraphQLError(what, { extensions: { code: "BROKEN" } });
const fail = (what) => {
  throw failed(what);
};
/** A value that turns out to be an error where it stands in a list. */
const broken = () => failed("no mark");
const cm = (number) => `${number}cm`;

class Loom {
  constructor(number) {
    this.number = number;
  }
  get __typename() {
    return "Loom";
  }
  id = () => this.number;
  name = () => `Loom "${this.number}"\t\b\f\u001b\\ größer 织机 🧵`;
  weave = () => ["PLAIN", "TWILL", "SATIN"][this.number % 3];
  width = () => 100 + this.number;
  load = () => this.number + 0.125;
  note = () => null;
  slow = ({ ms }) => after(ms, () => ms);
  fails = () => fail("fails");
  mayFail = () => fail("may fail");
  slowFails = ({ ms }) => after(ms, () => fail(`fails after ${ms}`));
  slowMayFail = ({ ms }) => after(ms, () => fail(`may fail after ${ms}`));
  next = () => new Loom(this.number + 1);
  surely = () => new Loom(this.number + 1);
  cloths = ({ first }) => after(3, () => Array.from({ length: first }, (_, n) => new Cloth(n)));
  shuttles = () => [0, 1, 2, 3].map((n) => (n === 2 ? null : new Shuttle(n)));
  allShuttles = () => [0, 1, 2].map((n) => new Shuttle(n));
  sureShuttles = () => this.allShuttles();
  marks = () => [1, broken(), null, 4];
  allMarks = () => [1, broken(), 3];
  grid = () => [[1, 2], [3, broken()], null, []];
}

class Cloth {
  constructor(number) {
    this.number = number;
  }
  get __typename() {
    return "Cloth";
  }
  id = () => `c${this.number}`;
  name = () => `cloth ${this.number}`;
  length = ({ less }) => (less === null ? null : 50 - less);
  loom = () => after(2, () => new Loom(this.number));
  dyed = ({ ms }) => after(ms, () => (this.number === 1 ? fail("the dye ran") : "blue"));
}

class Shuttle {
  constructor(number) {
    this.number = number;
  }
  whole = () => after(40 - 10 * this.number, () => (this.number % 2 === 1 ? fail(`shuttle ${this.number} is broken`) : true));
  loom = () => new Loom(this.number);
}

class Knot {
  constructor(depth) {
    this.depth = depth;
  }
  inner = () => after(1, () => new Knot(this.depth + 1));
  inners = () => [new Knot(this.depth + 1), new Knot(this.depth + 2)];
  loose = () => new Knot(this.depth + 1);
  end = () => after(5, () => (this.depth > 2 ? fail(`cut at ${this.depth}`) : `end of ${this.depth}`));
}

class Workshop {
  turn = 0;

  loom = ({ id }) => (/^-?[0-9]+$/.test(id) ? new Loom(Number(id)) : null);
  looms = ({ first }) => after(4, () => Array.from({ length: first }, (_, n) => new Loom(n)));
  things = () => after(6, () => [new Cloth(1), null, new Loom(1)]);
  thing = ({ loom }) => (loom ? new Loom(5) : new Cloth(5));
  find = ({ word, limit }) => [{ __typename: "Lost", word }, new Loom(2), new Cloth(1)].slice(0, limit);
  kept = () => [new Cloth(3), new Loom(3)];
  knot = () => new Knot(0);
  mayFail = ({ ms }) => after(ms, () => fail("the root may fail"));
  told = ({ wish: { weave, length, colours, borders, rate, note } }) => {
    const border = (border) => (border ? `${border.width} ${border.colour ?? "grey"}` : "-");
    return [
      weave,
      length ?? "any",
      `[${colours.join(", ")}]`,
      `[${borders ? borders.map(border).join(", ") : "none"}]`,
      rate ?? 0.5,
      note === undefined ? "not given" : note === null ? "null" : `'${note}'`,
    ].join(" ");
  };
  marked = ({ by }) => String(by.word ?? by.number ?? by.border.width);
  counted = ({ ids, marks, weaves }) => ids.length + (marks ?? []).flat().length + (weaves ?? []).length;

  weave = ({ ms }) => after(ms, () => ({ turn: ++this.turn, loom: new Loom(ms) }));
  tear = ({ ms }) => after(ms, () => (this.turn++, fail("torn")));
  surelyTear = ({ ms }) => after(ms, () => (this.turn++, fail("surely torn")));
}

const schema = buildSchema(await readFile(new URL("schema.graphql", folder), "utf8"));
const length = schema.getType("Length");
length.serialize = cm;
length.parseValue = (text) => (/^[0-9]+cm$/.test(text) ? parseInt(text, 10) : fail("no length"));
length.parseLiteral = ({ value }) => length.parseValue(value);
// read while the scalar was not yet known
const [less] = schema.getType("Cloth").getFields().length.args;
less.defaultValue = length.parseValue(less.defaultValue);

const files = await readdir(folder);
const names = files.filter((file) => file.endsWith(".graphql") && file !== "schema.graphql").map((file) => file.slice(0, -8));
assert(names.length >= 12, `only ${names.length} documents`);
let wrong = 0;
for (const name of names.sort()) {
  const text = await readFile(new URL(`${name}.graphql`, folder), "utf8");
  const hasVariables = files.includes(`${name}.variables.json`);
  const variableValues = hasVariables ? JSON.parse(await readFile(new URL(`${name}.variables.json`, folder), "utf8")) : {};
  const document = parse(text);
  assert.deepEqual(validate(schema, document), [], name);
  const answer = await untilDone(Promise.resolve(execute({ schema, document, variableValues, rootValue: new Workshop() })));
  // what is still under way belongs to no answer
  waiting.length = 0;
  const json = `${JSON.stringify(answer)}\n`;
  const file = new URL(`${name}.json`, folder);
  if (write) {
    await writeFile(file, json);
    continue;
  }
  const committed = await readFile(file, "utf8").catch(() => "nothing\n");
  if (committed !== json) {
    wrong++;
    console.error(`${name}: graphql-js answers\n  ${json}and committed is\n  ${committed}`);
  }
}

/** What graphql-js finds wrong with a document, or else with its variables; or else the values that the variables then have. */
function found({ document: text, variables }) {
  const document = parse(text);
  let errors = validate(schema, document);
  if (errors.length === 0 && variables !== undefined) {
    const definitions = document.definitions[0].variableDefinitions ?? [];
    const values = getVariableValues(schema, definitions, JSON.parse(variables));
    if (values.coerced) return { coerced: values.coerced };
    errors = values.errors;
  }
  const told = errors.map(({ message, locations }) => ({
    // what was meant is not guessed
    message: message.replace(/ Did you mean .*$/, ""),
    locations: locations.map(({ line, column }) => [line, column]),
  }));
  return { errors: told };
}

const invalid = new URL("../invalid.json", folder);
const was = await readFile(invalid, "utf8");
const cases = JSON.parse(was).map(({ errors, coerced, ...given }) => ({ ...given, ...found(given) }));
const is = `[\n${cases.map((it) => JSON.stringify(it)).join(",\n")}\n]\n`;
if (write) await writeFile(invalid, is);
else if (was !== is) {
  wrong++;
  const lines = is.split("\n");
  const differ = was.split("\n").findIndex((line, at) => line !== lines[at]);
  console.error(`invalid.json: graphql-js finds\n  ${lines[differ]}\nand committed is\n  ${was.split("\n")[differ]}`);
}
if (wrong > 0) process.exit(1);
console.log(`${names.length} documents answered, and ${cases.length} looked through, by graphql-js as is committed`);
