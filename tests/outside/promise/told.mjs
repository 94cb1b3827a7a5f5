// What a server at WEFT_URL tells of its schema, at /schema.graphql and by introspection, is what is committed: descriptions,
// deprecations and defaults included.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { buildClientSchema, buildSchema, getIntrospectionQuery, lexicographicSortSchema, printSchema } from "graphql";

const weft = process.env.WEFT_URL ?? "http://127.0.0.1:8080";
const committed = await readFile(new URL("../../../schema/schema.graphql", import.meta.url), "utf8");

const page = await fetch(`${weft}/schema.graphql`);
assert.equal(page.status, 200);
assert.match(page.headers.get("content-type"), /^(text\/plain|application\/graphql)\b/);
assert(committed === (await page.text()), "/schema.graphql is not schema/schema.graphql");

const query = getIntrospectionQuery({ specifiedByUrl: true, directiveIsRepeatable: true, inputValueDeprecation: true, oneOf: true });
const answer = await fetch(`${weft}/graphql`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ query }) });
const { data, errors } = await answer.json();
assert.equal(errors, undefined, JSON.stringify(errors));
const sorted = (schema) => printSchema(lexicographicSortSchema(schema)).split("\n");
assert.deepEqual(sorted(buildClientSchema(data)), sorted(buildSchema(committed)), "introspection tells another schema");
console.log("the schema as it is told: 2 passed, 0 failed");
