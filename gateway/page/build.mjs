// Makes `dist/` of `src/`: one script, one sheet of styles, the page, its icon, and the licences of what was bundled. The same
// sources give the same bytes on every machine: esbuild is pinned, and nothing depends on the version of Node.
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "dist");

/** What is changed in files of others, each once: where it isn't found, somebody has to look. */
const changes = [
  // 360 kB of fonts, as data. The system's are as readable.
  { filter: /graphiql\/dist\/style\.css$/, loader: "css", from: /@font-face\s*\{[^}]*\}/g, to: "" },
  // A field that has `false` for its default need not be given.
  { filter: /codemirror-graphql\/esm\/variables\/lint\.js$/, loader: "js", from: /!field\.defaultValue/g, to: "field.defaultValue === undefined" },
];
const found = new Set();
const changed = {
  name: "changed",
  setup({ onLoad }) {
    for (const change of changes) {
      onLoad({ filter: change.filter }, async ({ path }) => {
        const text = await readFile(path, "utf8");
        if (text.search(change.from) >= 0) found.add(change);
        return { contents: text.replace(change.from, change.to), loader: change.loader };
      });
    }
  },
};

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: { page: "src/main.tsx" },
  outdir: out,
  bundle: true,
  format: "esm",
  target: ["chrome109", "firefox115", "safari16.4"],
  jsx: "automatic",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"', "globalThis.process.env.NODE_ENV": '"production"' },
  // It puts `<style>` elements into the page, which the page's policy forbids; ours does the same without an element.
  alias: { "react-style-singleton": "./src/style-singleton.ts" },
  plugins: [changed],
  metafile: true,
  logLevel: "warning",
});

for (const { filter, from } of changes.filter((change) => !found.has(change))) throw new Error(`${filter} no longer holds ${from}`);

/** The folder of the package that a file is in. */
function packageOf(path) {
  const [, before, name] = /^(.*node_modules\/)((?:@[^/]+\/)?[^/]+)\//.exec(path) ?? [];
  return name && before + name;
}

/** A package, and its licence in its own words where it brings them. */
async function licensed(folder) {
  const { name, version, license, author, repository } = JSON.parse(await readFile(join(here, folder, "package.json"), "utf8"));
  const file = (await readdir(join(here, folder))).sort().find((file) => /^(licen[cs]e|copying)(\.(md|txt|markdown))?$/i.test(file));
  const text = file && (await readFile(join(here, folder, file), "utf8")).replaceAll("\r\n", "\n").trim();
  const source = (repository?.url ?? repository)?.replace(/^git\+|\.git$/g, "");
  const by = (author?.name ?? author ?? "").replace(/\s*<.*/, "");
  return { name: `${name} ${version}`, license, by, source, text };
}

await mkdir(out, { recursive: true });
const folders = [...new Set(Object.values(metafile.outputs).flatMap(({ inputs }) => Object.entries(inputs))
  .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
  .map(([path]) => packageOf(path)))].filter(Boolean);
const packages = (await Promise.all(folders.map(licensed))).sort((one, other) => (one.name < other.name ? -1 : 1));
const byText = new Map();
for (const { name, license, by, source, text } of packages) {
  // Of packages made from one repository, often only some bring its licence.
  const siblings = packages.filter((other) => other.text && source && other.source === source && other.license === license);
  const words = text ?? siblings[0]?.text ?? (license && source && `${license}, by ${by || "its authors"}: ${source}`);
  if (!words) throw new Error(`${name} has no licence`);
  byText.set(words, [...(byText.get(words) ?? []), name]);
}
const blocks = [...byText].map(([text, names]) => `${names.join("\n")}\n\n${text}\n`);
await writeFile(join(out, "LICENSES.txt"), `What the page is made of besides Weft itself, and the licences of it.\n\n${blocks.join(`\n${"-".repeat(80)}\n\n`)}`);
for (const file of ["index.html", "icon.svg"]) await copyFile(join(here, "src", file), join(out, file));

const expected = ["LICENSES.txt", "icon.svg", "index.html", "page.css", "page.js"];
for (const file of await readdir(out)) if (!expected.includes(file)) await rm(join(out, file));
console.log(`${folders.length} packages in ${relative(process.cwd(), out) || "."}`);
