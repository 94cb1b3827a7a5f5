// The schema as graphql-eslint sees it: its rules `schema-recommended` and `schema-relay`, less those named below, each for its
// reason. `node lint.mjs [FILE]`: the committed schema, unless another is named. One for each process: the plugin keeps the first
// schema that it sees.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import graphql from "@graphql-eslint/eslint-plugin";
import { ESLint } from "eslint";

const exceptions = {
  // Pages, events, payloads and errors are values of something else: nobody can ask for one of them by an id of its own, and an
  // id that leads nowhere would be a promise that isn't kept. What has one implements `Node`.
  "@graphql-eslint/strict-id-in-types": "off",
  // `Conflict.conflicting` is a word of its own, and `Model.modelName` is the provider's name, beside `name`, which is the tenant's.
  "@graphql-eslint/no-typename-prefix": "off",
  // What can't grow is a plain list; a page has its `nodes` beside its `edges`. Edges themselves must be sound.
  "@graphql-eslint/relay-edge-types": ["error", { withEdgeSuffix: true, shouldImplementNode: true, listTypeCanWrapOnlyEdgeType: false }],
};

const file = process.argv[2] ?? fileURLToPath(new URL("../../../schema/schema.graphql", import.meta.url));
const sdl = await readFile(file, "utf8");
const eslint = new ESLint({
  overrideConfigFile: true,
  overrideConfig: {
    files: ["**/*.graphql"],
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: sdl } } },
    plugins: { "@graphql-eslint": graphql },
    rules: {
      ...graphql.configs["flat/schema-recommended"].rules,
      ...graphql.configs["flat/schema-relay"].rules,
      ...exceptions,
    },
  },
});
// As text, since a file elsewhere is none of ESLint's.
const [{ messages }] = await eslint.lintText(sdl, { filePath: "schema.graphql" });
for (const { ruleId, line, message } of messages) console.log(`${basename(file)}:${line}: ${message} (${ruleId})`);
console.log(messages.length ? `failed: ${messages.length} found by graphql-eslint` : "graphql-eslint: nothing found");
process.exitCode = messages.length ? 1 : 0;
