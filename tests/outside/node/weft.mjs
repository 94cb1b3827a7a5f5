// A server of a test file's own, with a model provider beside it, and what is asked of the two again and again. Files share nothing,
// so that they run side by side and may end, fill up or kill what they are about.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The program; the scripted provider lies beside it. */
const BINARY = process.env.WEFT_BINARY ? resolve(process.env.WEFT_BINARY) : fileURLToPath(new URL("../../../target/debug/weft", import.meta.url));
/** Where databases can be made; without it each server has an SQLite file. */
const POSTGRES = process.env.POSTGRES_URL;

export const EMAIL = "outside@example.test";
export const PASSWORD = "shuttle, heddle and reed";
/** How long a single test may take, in milliseconds. */
export const PATIENCE = 45_000;

const running = new Set();
const folders = new Set();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/** A test that doesn't wait for ever, and shows what the servers had to say if it fails. */
export function test(name, run) {
  nodeTest(name, { timeout: PATIENCE }, async (context) => {
    try {
      await run(context);
    } catch (error) {
      for (const child of running) context.diagnostic(`the end of ${child.log}:\n${(await readFile(child.log, "utf8")).split("\n").slice(-12).join("\n")}`);
      // A client may throw what is no error: a close event, or a list of errors.
      throw error instanceof Error ? error : new Error(`thrown: ${error?.code ?? ""} ${error?.reason ?? JSON.stringify(error)}`);
    }
  });
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Asks again and again, until there is an answer that counts. */
export async function until(what, ask, milliseconds = 30_000) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert(Date.now() < end, `waited in vain for ${what}`);
    await sleep(20);
  }
}

/** Starts a program, its words in a file. */
async function launch(program, log, options) {
  const file = await open(log, "a");
  const child = spawn(program, { stdio: ["ignore", file.fd, file.fd], ...options });
  child.log = log;
  child.ended = new Promise((resolve, reject) => {
    child.once("exit", resolve);
    child.once("error", reject);
  }).finally(() => running.delete(child));
  running.add(child);
  await file.close();
  return child;
}

async function end(child, signal) {
  child.kill(signal);
  const late = setTimeout(() => child.kill("SIGKILL"), 20_000);
  await child.ended;
  clearTimeout(late);
}

/** The model provider: it says what it is told to. */
class Provider {
  static async start(folder) {
    const log = join(folder, "provider.log");
    const provider = new Provider();
    provider.child = await launch(join(dirname(BINARY), "scripted-provider"), log);
    const [, address] = await until("the provider", async () => /^LISTENING (\S+)/m.exec(await readFile(log, "utf8")));
    provider.url = `http://${address}`;
    return provider;
  }

  async control(method, path, body) {
    const response = await fetch(`${this.url}/control/${path}`, { method, body: body && JSON.stringify(body) });
    const text = await response.text();
    assert(response.ok, `the provider refused ${method} ${path}: ${text}`);
  }

  /** Lets answers go on that wait for the gate of that name. */
  open(gate) {
    return this.control("POST", `gates/${gate}`);
  }
}

/** A server and its first user. */
export class Weft {
  /** `settings` are variables without their `WEFT_`. */
  static async start(settings = {}) {
    const weft = new Weft();
    weft.folder = await mkdtemp(join(tmpdir(), "weft-node-"));
    folders.add(weft.folder);
    weft.provider = await Provider.start(weft.folder);
    // What is set for a server of somebody's own is not for this one.
    const inherited = Object.entries(process.env).filter(([name]) => !/^(WEFT|OPENAI|ANTHROPIC|GEMINI|AZURE|OLLAMA)_/.test(name));
    weft.environment = { ...Object.fromEntries(inherited), WEFT_OUTBOUND_ALLOW: "127.0.0.1/32", WEFT_LISTEN: "127.0.0.1:0" };
    if (POSTGRES) {
      const name = `node_${randomBytes(6).toString("hex")}`;
      await promisify(execFile)("psql", ["--no-psqlrc", "--quiet", `--dbname=${POSTGRES}`, `--command=create database ${name}`]);
      weft.environment.WEFT_DATABASE_URL = Object.assign(new URL(POSTGRES), { pathname: name }).href;
      weft.environment.WEFT_SECRET_KEY = randomBytes(32).toString("base64");
    }
    for (const [name, value] of Object.entries(settings)) weft.environment[`WEFT_${name}`] = value;
    await weft.launch();
    const payload = await weft.done(
      "setUp",
      { email: EMAIL, password: PASSWORD, name: "Outside", tenantName: "Outside" },
      "accessToken refreshToken viewer { user { email } role }",
    );
    assert.deepEqual(payload.viewer, { user: { email: EMAIL }, role: "OWNER" });
    weft.token = payload.accessToken;
    weft.refreshToken = payload.refreshToken;
    return weft;
  }

  /** Starts the program, on the port that it had before. */
  async launch() {
    const address = join(this.folder, "weft-data", "address");
    await rm(address, { force: true });
    this.child = await launch(BINARY, join(this.folder, "weft.log"), { cwd: this.folder, env: this.environment });
    let died;
    this.child.ended.then(() => (died = true));
    this.url = await until("the server's address", async () => {
      assert(!died, "the server ended instead of starting");
      const text = await readFile(address, "utf8").catch(() => "");
      return text && `http://${text.trim().replace(/^http:\/\//, "").replace(/\/$/, "")}`;
    });
    await until("the server", async () => {
      const response = await fetch(`${this.url}/ready`).catch(() => undefined);
      await response?.text();
      return response?.ok;
    });
    this.environment.WEFT_LISTEN = new URL(this.url).host;
  }

  /** Ends the program and leaves its data. */
  halt(signal) {
    return end(this.child, signal);
  }

  async stop() {
    await this.halt("SIGTERM");
    await end(this.provider.child, "SIGTERM");
    await rm(this.folder, { recursive: true, force: true });
    folders.delete(this.folder);
  }

  get graphql() {
    return `${this.url}/graphql`;
  }

  get socket() {
    return this.graphql.replace(/^http/, "ws");
  }

  get bearer() {
    return `Bearer ${this.token}`;
  }

  async post(query, variables = {}, headers = {}) {
    const response = await fetch(this.graphql, {
      method: "POST",
      headers: {
        accept: "application/graphql-response+json",
        "content-type": "application/json",
        ...(this.token && { authorization: this.bearer }),
        ...headers,
      },
      body: JSON.stringify({ query, variables }),
    });
    return { status: response.status, ...(await response.json()) };
  }

  /** Asks for a document in which nothing may go wrong. */
  async ask(query, variables, headers) {
    const { status, data, errors } = await this.post(query, variables, headers);
    assert.equal(errors, undefined, `${query}\nanswered ${status} with ${JSON.stringify(errors)}`);
    return data;
  }

  /** Does a mutation of one field that may not be refused; answers its payload. */
  async done(field, input, selection) {
    const type = field[0].toUpperCase() + field.slice(1);
    const document = `mutation ($input: ${type}Input!) { ${field}(input: $input) { ${selection} errors { code message } } }`;
    const data = await this.ask(document, { input });
    assert.deepEqual(data[field].errors, [], `${field} was refused`);
    return data[field];
  }

  /** Another session of the same user. */
  signIn() {
    return this.done("signIn", { email: EMAIL, password: PASSWORD }, "accessToken refreshToken");
  }

  /** An agent of its own on a model of its own, which says these steps; one list for each time that it is asked. */
  async agentThatSays(name, ...turns) {
    await this.provider.control("PUT", `scripts/${name}`, turns.map((steps) => ({ steps })));
    const { model } = await this.done(
      "createModel",
      { slug: name, name, kind: "CHAT", provider: "OPENAI_COMPATIBLE", modelName: name, baseUrl: `${this.provider.url}/v1`, apiKey: "sk-outside" },
      "model { id hasApiKey }",
    );
    assert.equal(model.hasApiKey, true);
    const { agent } = await this.done("createAgent", { name, instructions: "Answer.", modelId: model.id }, "agent { id version { number } model { id } }");
    assert.deepEqual({ number: agent.version.number, model: agent.model.id }, { number: 1, model: model.id });
    return agent.id;
  }

  send(input) {
    return this.done("sendMessage", input, "conversation { id } message { id role } run { id status } cursor");
  }

  /**
   * An answer that stops in its middle until the gate is opened. It is said whole to whoever asks a second time, as a server does
   * that has lost the first answer.
   */
  async halves(name) {
    const agentId = await this.agentThatSays(name, [...FIRST, { wait_for: name }, ...SECOND], [...FIRST, ...SECOND]);
    const sent = await this.send({ agentId, text: "Begin, and wait for me." });
    return { ...sent, id: sent.conversation.id, open: () => this.provider.open(name) };
  }
}

/** Letters of one, two and three bytes, and one outside the basic plane: positions in text count UTF-16 code units. */
const words = (...texts) => texts.map((text) => ({ text }));
export const FIRST = words("The ", "über", " loom ", "织物 ");
export const SECOND = words("🧵 ", "holds ", "the ", "warp", ".");
export const said = (steps) => steps.map(({ text }) => text).join("");
export const HALF = said(FIRST);
export const WHOLE = said([...FIRST, ...SECOND]);

export const EVENTS = `
  __typename cursor runId
  ... on MessageCreated { messageId message { id role status clientId } }
  ... on TextDelta { messageId part offset text }
  ... on StepRestarted { messageId fromPart }
  ... on MessageCompleted { messageId message { id role status text parts { __typename ... on TextPart { index text } } } }
  ... on StepFinished { step result { finishReason usage { inputTokens outputTokens } } }
  ... on RunCompleted { run { id status } }
  ... on RunFailed { error { kind message } }`;
export const CONVERSATION = `subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) { ${EVENTS} } }`;
export const RUN = `subscription ($id: ID!, $after: Cursor) { runEvents(runId: $id, after: $after) { ${EVENTS} } }`;

export const isEnd = ({ __typename }) => ["RunCompleted", "RunFailed", "RunCancelled"].includes(__typename);

/** The text that the deltas make, each put where it says that it stands. */
export function joined(events) {
  const parts = [];
  for (const event of events) {
    if (event.__typename === "StepRestarted") parts.length = Math.min(parts.length, event.fromPart);
    if (event.__typename !== "TextDelta") continue;
    const before = parts[event.part] ?? "";
    assert.equal(event.offset, before.length, `a delta stands at ${event.offset} and the text is ${before.length} long: ${JSON.stringify(event)}`);
    parts[event.part] = before + event.text;
  }
  return parts.join("");
}

/** Nothing is missing, nothing came twice, and the pieces are what was said. */
export function assertWhole(events, text = WHOLE) {
  const kinds = events.map((event) => event.__typename);
  assert.equal(kinds.at(-1), "RunCompleted", `the run ended with ${JSON.stringify(events.at(-1))}`);
  assert.equal(new Set(events.map((event) => event.cursor)).size, events.length, "an event came twice");
  const finished = events.find((event) => event.__typename === "MessageCompleted");
  assert.equal(finished.message.text, text);
  assert.equal(finished.message.status, "COMPLETE");
  assert.equal(joined(events), text, "the deltas make another text than the finished message");
  return kinds;
}

/** A line to the server that can be cut: to clients, the network goes. */
export class Cable {
  static async lay(weft) {
    const { hostname, port } = new URL(weft.url);
    const cable = new Cable();
    cable.ends = new Set();
    cable.server = net.createServer((near) => {
      const far = net.connect(port, hostname);
      for (const [end, other] of [[near, far], [far, near]]) {
        cable.ends.add(end);
        end.pipe(other);
        end.on("error", () => {});
        end.on("close", () => cable.ends.delete(end) && other.destroy());
      }
    });
    await new Promise((resolve) => cable.server.listen(0, "127.0.0.1", resolve));
    cable.graphql = `http://127.0.0.1:${cable.server.address().port}/graphql`;
    cable.socket = cable.graphql.replace(/^http/, "ws");
    return cable;
  }

  /** Everything that is on its way is lost; who dials anew gets through. */
  cut() {
    for (const end of this.ends) end.destroy();
  }

  close() {
    this.cut();
    this.server.close();
  }
}
