// The client's documents as TypeScript, by graphql-codegen: client/generated.ts, of what the schema promises. `node generate.mjs
// [ADDRESS]`: the committed schema, or the one that a server tells by introspection.
import { readFile, writeFile } from "node:fs/promises";
import { codegen } from "@graphql-codegen/core";
import * as typedDocumentNode from "@graphql-codegen/typed-document-node";
import * as typescriptOperations from "@graphql-codegen/typescript-operations";
import { buildClientSchema, buildSchema, getIntrospectionQuery, parse, printSchema } from "graphql";

const at = (path) => new URL(path, import.meta.url);

async function promised() {
  const address = process.argv[2];
  if (!address) return readFile(at("../../../schema/schema.graphql"), "utf8");
  const response = await fetch(`${address}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query: getIntrospectionQuery() }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(`${address} can't be introspected: ${JSON.stringify(errors)}`);
  return printSchema(buildClientSchema(data));
}

const sdl = await promised();
const document = parse(await readFile(at("client/documents.graphql"), "utf8"));
const code = await codegen({
  filename: "generated.ts",
  schema: parse(sdl),
  schemaAst: buildSchema(sdl),
  documents: [{ location: "client/documents.graphql", document }],
  pluginMap: { typescriptOperations, typedDocumentNode },
  plugins: [{ typescriptOperations: {} }, { typedDocumentNode: {} }],
  config: {
    useTypeImports: true,
    // Every scalar that the schema has and the specification hasn't is named here; a new one fails.
    strictScalars: true,
    scalars: {
      ID: "string",
      // RFC 3339: text, for whatever library reads times.
      DateTime: "string",
      Cursor: "string",
      // Exact, so never a floating number.
      Decimal: "string",
      // A number up to 2^53, digits beyond.
      Long: "number | string",
      JSON: "unknown",
    },
    // Values may come that this client doesn't know: whoever switches over them is made to think of it.
    futureProofEnums: true,
  },
});
await writeFile(at("client/generated.ts"), code);
