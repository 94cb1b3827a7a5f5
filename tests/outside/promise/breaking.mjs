// The schema held against the one that was released last: nothing that a client may rely on goes or changes unless CHANGELOG.md
// announces it, and nothing goes before the day that its deprecation names. By itself it compares the committed files.
//
// A line of the changelog's section "Unreleased" announces:
//
//     - **Breaking**: `Agent.slug`, `Query.agent.slug`: …
//
// each by its coordinate, as it is printed here: `Type`, `Type.field`, `Type.field.argument`, `Enum.VALUE`.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { CriticalityLevel, diff } from "@graphql-inspector/core";
import { buildSchema, isEnumType, isInputObjectType, isInterfaceType, isObjectType } from "graphql";

/** Months between the release that deprecates something and the day before which it is not taken away. */
const NOTICE = 12;

/** What the changelog's section of the next release announces as breaking. */
export function announced(changelog) {
  const section = /^## Unreleased\n(.*?)(?=^## |$(?![\s\S]))/ms.exec(changelog)?.[1] ?? "";
  // Only the names at the head of the line: what follows may well name what takes their place.
  const lines = section.matchAll(/^- \*\*Breaking\*\*: ((?:`[^`\n]+`(?:,\s+|\s+and\s+)?)+)/gm);
  return new Set([...lines].flatMap(([, names]) => [...names.matchAll(/`([^`]+)`/g)].map(([, name]) => name)));
}

/** What is deprecated in a schema: reasons by coordinate. */
function deprecations(schema) {
  const reasons = new Map();
  const look = (at, { deprecationReason }) => deprecationReason != null && reasons.set(at, deprecationReason);
  for (const type of Object.values(schema.getTypeMap())) {
    if (isObjectType(type) || isInterfaceType(type) || isInputObjectType(type)) {
      for (const field of Object.values(type.getFields())) {
        look(`${type.name}.${field.name}`, field);
        for (const argument of field.args ?? []) look(`${type.name}.${field.name}.${argument.name}`, argument);
      }
    } else if (isEnumType(type)) {
      for (const value of type.getValues()) look(`${type.name}.${value.name}`, value);
    }
  }
  return reasons;
}

/** The day that a reason names, as YYYY-MM-DD. */
const day = (reason) => /\b\d{4}-\d{2}-\d{2}\b/.exec(reason)?.[0];

function later(today, months) {
  const date = new Date(`${today}T00:00:00Z`);
  date.setUTCMonth(date.getUTCMonth() + months);
  return date.toISOString().slice(0, 10);
}

/**
 * Holds a schema against the released one. `failures` are broken promises; `dangerous` is what may surprise a client that does
 * not ignore what it doesn't know, as every client is told to: it is only listed.
 */
export async function compare({ released, current, changelog, today }) {
  const [before, after] = [buildSchema(released), buildSchema(current)];
  const names = announced(changelog);
  const [was, is] = [deprecations(before), deprecations(after)];
  const changes = await diff(before, after);
  const isOf = (level) => ({ criticality }) => criticality.level === level;
  const failures = [];
  const broken = new Set();
  for (const { path, message, type } of changes.filter(isOf(CriticalityLevel.Breaking))) {
    broken.add(path);
    const until = was.has(path) && day(was.get(path));
    if (!names.has(path)) failures.push(`${path}: ${message}, which CHANGELOG.md does not announce`);
    else if (until && today < until && type.endsWith("_REMOVED")) {
      failures.push(`${path}: ${message}, although its deprecation says that it stays until ${until}`);
    }
  }
  for (const name of names) {
    if (!broken.has(name)) failures.push(`${name}: CHANGELOG.md announces that it breaks, and it does not`);
  }
  for (const [at, reason] of is) {
    const until = day(reason);
    if (!until) failures.push(`${at}: its deprecation names no day (YYYY-MM-DD) before which it stays`);
    else if (!was.has(at) && until < later(today, NOTICE)) failures.push(`${at}: is deprecated anew and stays until ${until}, which is less than ${NOTICE} months`);
    else if (was.has(at) && day(was.get(at)) > until) failures.push(`${at}: was to stay until ${day(was.get(at))}, and now until ${until}`);
  }
  const dangerous = changes.filter(isOf(CriticalityLevel.Dangerous)).map(({ path, message }) => `${path}: ${message}`);
  return { failures, dangerous };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = (path) => readFile(new URL(`../../../${path}`, import.meta.url), "utf8");
  const [released, current, changelog] = await Promise.all(["schema/released.graphql", "schema/schema.graphql", "CHANGELOG.md"].map(file));
  const { failures, dangerous } = await compare({ released, current, changelog, today: new Date().toISOString().slice(0, 10) });
  for (const line of dangerous) console.log(`to look at: ${line}`);
  for (const line of failures) console.log(`broken: ${line}`);
  console.log(failures.length ? `failed: ${failures.length} promises of schema/released.graphql are broken` : "graphql-inspector: nothing that was released is broken");
  process.exitCode = failures.length ? 1 : 0;
}
