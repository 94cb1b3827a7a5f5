// Weft's page in a real browser, as somebody new to it uses it; then what pages of others can't do. Against WEFT_URL, a server that
// nobody has set up, with a model provider at PROVIDER_URL that says what it is told to; SETUP_LINK is what another server printed, one
// that asks for a token. With SCREENSHOTS, a folder, it shows what
// it saw.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const weft = process.env.WEFT_URL;
const provider = process.env.PROVIDER_URL;
assert(weft && provider && process.env.SETUP_LINK, "WEFT_URL is a fresh server, PROVIDER_URL the scripted provider, SETUP_LINK another server's");
const { host, port } = new URL(weft);

const EMAIL = "ada@example.test";
const PASSWORD = "shuttle, heddle and reed";
/** How long anything may take, in milliseconds. */
const PATIENCE = 20_000;
const WORDS = ["The ", "über", " loom ", "织物 ", "🧵 ", "holds ", "the ", "warp", "."];
const TEXT = WORDS.join("");
const unique = Date.now().toString(36);

const profile = mkdtempSync(join(tmpdir(), "weft-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  viewport: { width: 1440, height: 900 },
  // A name of somebody else's that leads to this machine, as after a rebinding.
  args: [
    "--host-resolver-rules=MAP evil.example 127.0.0.1", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});
context.setDefaultTimeout(PATIENCE);

/** What went wrong in our pages; a test takes out of it what it caused on purpose. */
const wrongs = [];
const foreign = [];

/** A page that is watched: for requests to others, for errors, for what its policy forbade. */
async function watched() {
  const page = await context.newPage();
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (/^(https?|wss?):$/.test(url.protocol) && url.host !== host) foreign.push(request.url());
  });
  page.on("websocket", (socket) => new URL(socket.url()).host === host || foreign.push(socket.url()));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && wrongs.push(`${message.text()} (${message.location().url})`));
  page.on("pageerror", (error) => wrongs.push(`uncaught: ${error.message}`));
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`)));
  return page;
}

/** The errors that were meant: takes them out, and fails where there was none. */
function meant(pattern) {
  const at = wrongs.findIndex((wrong) => pattern.test(wrong));
  assert(at >= 0, `nothing went wrong like ${pattern}: ${JSON.stringify(wrongs)}`);
  for (let i = wrongs.length - 1; i >= 0; i -= 1) if (pattern.test(wrongs[i])) wrongs.splice(i, 1);
}

let shots = 0;
async function shoot(page, name) {
  shots += 1;
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${String(shots).padStart(2, "0")}-${name}.png`) });
}

async function until(what, check) {
  const end = Date.now() + PATIENCE;
  let last;
  while (Date.now() < end) {
    last = await check();
    if (last) return last;
    await new Promise((done) => setTimeout(done, 50));
  }
  return assert.fail(`not within ${PATIENCE} ms: ${what}`);
}

async function control(method, path, body) {
  const response = await fetch(`${provider}/control/${path}`, { method, body: body && JSON.stringify(body) });
  assert(response.ok, `the provider refused ${method} ${path}: ${await response.text()}`);
}

/** Asks beside the browser, to prepare something or to compare with. */
let token;
async function ask(query, variables) {
  const response = await fetch(`${weft}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined, JSON.stringify(errors));
  return data;
}

async function write(page, which, text) {
  const box = page.locator(which === "query" ? ".graphiql-query-editor .CodeMirror" : ".graphiql-editor-tool .graphiql-editor:not(.hidden) .CodeMirror").first();
  await box.click();
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.press("Delete");
  await page.keyboard.insertText(text);
}
const start = (page) => page.locator(".graphiql-execute-button").click();
/** The answer in the response pane, once it is one that holds. */
const answer = (page, holds) => until("an answer in the page", async () => {
  const text = await page.evaluate(() => document.querySelector(".graphiql-response .CodeMirror")?.CodeMirror.getValue());
  try {
    const value = JSON.parse(text);
    return holds(value) && value;
  } catch {
    return false;
  }
});
/** How the description of a field begins. */
async function described(type, field) {
  const { __type } = await ask("query ($type: String!) { __type(name: $type) { fields { name description } } }", { type });
  return __type.fields.find(({ name }) => name === field).description.split(/[\n`.:]/)[0];
}

const tab = (page, name) => page.locator(".graphiql-tab-button").getByText(name, { exact: true }).click();
const plugin = (page, name) => page.getByRole("button", { name: new RegExp(`^(Show|Hide) ${name}$`) });
const text = (page) => page.locator(".weft-text").innerText();
const credential = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem("weft.credential")));

async function signIn(page) {
  await page.getByLabel("E-mail").fill(EMAIL);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

/** An agent whose answer stops at a gate. */
async function agentThatWaits(name) {
  const before = WORDS.slice(0, 4).map((text) => ({ text }));
  await control("PUT", `scripts/${name}`, [{ steps: [...before, { wait_for: name }, ...WORDS.slice(4).map((text) => ({ text }))] }]);
  const { createModel } = await ask("mutation ($input: CreateModelInput!) { createModel(input: $input) { model { id } errors { message } } }", {
    input: { slug: name, name, kind: "CHAT", provider: "OPENAI_COMPATIBLE", modelName: name, baseUrl: `${provider}/v1`, apiKey: "sk-outside" },
  });
  const { createAgent } = await ask("mutation ($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } errors { message } } }", {
    input: { name, instructions: "Answer.", modelId: createModel.model.id },
  });
  return createAgent.agent.id;
}

let page;
let sent;

/** Asks by the page's editor, and begins to watch by the example for it, up to the gate. */
async function watch(page, name) {
  const agentId = await agentThatWaits(name);
  await tab(page, "Ask");
  await write(page, "variable", JSON.stringify({ input: { agentId, text: "What does a loom hold?" } }));
  await start(page);
  const { data } = await answer(page, ({ data }) => data?.sendMessage?.cursor);
  assert.deepEqual(data.sendMessage.errors, []);
  await tab(page, "Watch");
  await write(page, "variable", JSON.stringify({ conversation: data.sendMessage.conversation.id, after: data.sendMessage.cursor }));
  await start(page);
  await until("the first half", async () => (await text(page).catch(() => "")) === WORDS.slice(0, 4).join(""));
  return data.sendMessage;
}

const events = (page) => page.locator(".weft-event").evaluateAll((lines) => lines.map((line) => ({
  kind: line.querySelector(".weft-kind").textContent, cursor: line.querySelector("[data-cursor]")?.dataset.cursor,
})));

/** The events up to the end of the run; what the conversation does afterwards may come or not. */
async function untilEnd(page) {
  let end;
  const all = await until("the end of the run", async () => {
    const all = await events(page);
    end = all.findIndex(({ kind }) => kind === "RunCompleted");
    return end >= 0 && all;
  });
  return all.slice(0, end + 1);
}

/** The stream in the page is all that happened: what the server's log holds, each event once. */
async function assertWhole(page, { conversation, cursor, run }) {
  const seen = await untilEnd(page);
  assert.equal(await text(page), TEXT);
  assert.equal(new Set(seen.map((event) => event.cursor)).size, seen.length, "an event came twice");
  const kinds = new Set(seen.map(({ kind }) => kind));
  for (const kind of ["MessageCreated", "RunQueued", "RunStarted", "TextDelta", "MessageCompleted"]) assert(kinds.has(kind), `no ${kind}`);
  const { run: finished } = await ask("query ($id: ID!) { run(id: $id) { status output { text } } }", { id: run.id });
  assert.deepEqual(finished, { status: "COMPLETED", output: { text: TEXT } });
  // The whole again, from the same cursor, in one piece: pieces may have been joined meanwhile, the rest is the same.
  const fresh = await watched();
  await fresh.goto(weft);
  await signIn(fresh);
  await tab(fresh, "Watch");
  await write(fresh, "variable", JSON.stringify({ conversation: conversation.id, after: cursor }));
  await start(fresh);
  const others = (list) => list.filter(({ kind }) => kind !== "TextDelta");
  assert.deepEqual(others(seen), others(await untilEnd(fresh)));
  assert.equal(await text(fresh), TEXT);
  await fresh.close();
}

const tests = {
  async "takes the set-up token out of the address, and runs nothing by itself"() {
    page = await watched();
    const posted = [];
    page.on("request", (request) => request.method() === "POST" && posted.push(request.postData()));
    await page.goto(`${weft}/#setup=some%20token`);
    await page.getByRole("heading", { name: "Set up Weft" }).waitFor();
    assert.equal(page.url(), `${weft}/`);
    assert.equal(await page.evaluate(() => history.length), 2, "the link with the token is in the history");
    assert.equal(await page.getByLabel("Set-up token").count(), 0);
    assert(posted.every((body) => !body.includes("mutation")), "something was done by the link alone");
    // What looks like a query in the address is not run, not even shown.
    await page.goto(`${weft}/?query=mutation%7BsignOut(input%3A%7B%7D)%7Bended%7D%7D#query={service{name}}`);
    await page.getByRole("heading", { name: "Set up Weft" }).waitFor();
    assert.equal(page.url(), `${weft}/`);
    assert(posted.every((body) => !body.includes("mutation")), "the address was run");
    await shoot(page, "set-up");
  },

  async "is set up in the page"() {
    await page.getByLabel("E-mail").fill(EMAIL);
    await page.getByLabel("Password").fill("too short");
    await page.getByLabel("Your name").fill("Ada");
    await page.getByLabel("Name of your team").fill("Looms");
    await page.getByRole("button", { name: "Set up", exact: true }).click();
    await page.locator(".weft-wrong").first().waitFor();
    await shoot(page, "set-up-refused");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Set up", exact: true }).click();
    await page.getByRole("button", { name: "Sign out" }).waitFor();
    assert.match(await page.locator(".weft-bar").innerText(), /Ada[\s\S]*Looms, owner/);
    await page.locator(".graphiql-query-editor").waitFor();
    await shoot(page, "workbench");
  },

  async "is set up by the link alone where a token is asked for"() {
    const link = new URL(process.env.SETUP_LINK);
    assert.match(link.hash, /^#setup=/);
    const far = await context.newPage();
    const fill = async () => {
      await far.getByLabel("E-mail").fill(EMAIL);
      await far.getByLabel("Password").fill(PASSWORD);
      await far.getByLabel("Your name").fill("Ada");
      await far.getByLabel("Name of your team").fill("Looms");
      await far.getByRole("button", { name: "Set up", exact: true }).click();
    };
    await far.goto(link.origin);
    await fill();
    await far.locator(".weft-wrong").waitFor();
    // Opened where the page is already, it is taken as well.
    await far.goto(link.href);
    await far.getByLabel("Set-up token").waitFor({ state: "detached" });
    assert.equal(far.url(), `${link.origin}/`);
    await fill();
    await far.getByRole("button", { name: "Sign out" }).click();
    await far.getByRole("heading", { name: "Sign in to Weft" }).waitFor();
    // Spent.
    await far.goto(link.href);
    await far.getByText("This server is set up already").waitFor();
    await far.close();
  },

  async "answers a query"() {
    await start(page);
    const { data } = await answer(page, ({ data }) => data?.viewer);
    assert.equal(data.viewer.user.email, EMAIL);
    await shoot(page, "answer");
    await write(page, "query", "query Me { nonsense }");
    await start(page);
    const { errors } = await answer(page, ({ errors }) => errors);
    assert.match(errors[0].message, /nonsense/);
    meant(/400 \(Bad Request\)/);
    // The next example, as it stands there.
    await tab(page, "NewAgent");
    await start(page);
    const made = await answer(page, ({ data }) => data?.createAgent);
    assert.equal(made.data.createAgent.agent.name, "Weaver");
    await tab(page, "Me");
  },

  async "signs out and in again"() {
    const before = await credential(page);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "Sign in to Weft" }).waitFor();
    // Nothing of hers is left for whoever comes next.
    assert.deepEqual(await page.evaluate(() => Object.values(sessionStorage).filter((value) => value.includes("nonsense"))), []);
    assert.equal(await credential(page), null);
    const gone = await until("the end of the session", async () => {
      const response = await fetch(`${weft}/graphql`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${before.access}` },
        body: '{"query": "{ viewer { role } }"}',
      });
      return (await response.json()).errors;
    });
    assert.equal(gone[0].extensions.code, "UNAUTHENTICATED");
    await page.getByLabel("E-mail").fill(EMAIL);
    await page.getByLabel("Password", { exact: true }).fill("not the password");
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByRole("alert").waitFor();
    await shoot(page, "sign-in-refused");
    await signIn(page);
    token = (await credential(page)).access;
    assert.equal(await page.evaluate(() => Object.keys(localStorage).length), 0, "something is kept beyond the tab");
    assert.deepEqual(await context.cookies(), []);
  },

  async "builds a query in the explorer"() {
    await write(page, "query", "query Me { service { name } }");
    await plugin(page, "Explorer").click();
    await page.locator(".graphiql-explorer-root").waitFor();
    await page.locator('.graphiql-explorer-node [data-field-name="version"]').first().click();
    await until("the field in the editor", () => page.evaluate(() => /version/.test(document.querySelector(".graphiql-query-editor .CodeMirror").CodeMirror.getValue())));
    await shoot(page, "explorer");
    await start(page);
    const { data } = await answer(page, ({ data }) => data?.service?.version);
    assert.equal(data.service.name, "Weft");
  },

  async "keeps a history, and brings a query back from it"() {
    await plugin(page, "History").click();
    await page.locator(".graphiql-history-item").first().waitFor();
    await write(page, "query", "query Me { __typename }");
    await page.locator(".graphiql-history-item").first().getByRole("button").first().click();
    await until("the query in the editor", () => page.evaluate(() => /service/.test(document.querySelector(".graphiql-query-editor .CodeMirror").CodeMirror.getValue())));
    await shoot(page, "history");
  },

  async "shows the schema's documentation"() {
    await plugin(page, "Documentation Explorer").click();
    await page.locator(".graphiql-doc-explorer").getByText("Subscription", { exact: true }).click();
    await page.getByText(await described("Subscription", "conversationEvents")).first().waitFor();
    await shoot(page, "documentation");
  },

  async "opens its dialogs, hints and menus"() {
    for (const button of await page.locator(".graphiql-toolbar button").all()) await button.hover();
    await page.locator(".graphiql-sidebar").getByRole("button", { name: "Open settings dialog" }).click();
    await page.getByRole("dialog").waitFor();
    await shoot(page, "settings");
    await page.keyboard.press("Escape");
    await page.locator(".graphiql-sidebar").getByRole("button", { name: "Open short keys dialog" }).click();
    await page.getByRole("heading", { name: "Short Keys" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await write(page, "query", "query Me { service { name } } query Other { __typename }");
    const other = page.getByRole("menuitem", { name: "Other" });
    // It is a menu as soon as the editor has seen that there are two operations.
    await until("a menu of operations", async () => {
      await start(page);
      return other.waitFor({ timeout: 500 }).then(() => true, () => false);
    });
    await other.click();
    await answer(page, ({ data }) => data?.__typename === "Query");
    await write(page, "query", "query Me { service { n");
    await page.keyboard.press("Control+Space");
    await page.locator(".CodeMirror-hints").getByText("needsSetup").first().waitFor();
    await shoot(page, "hints");
    await page.keyboard.press("Escape");
    await write(page, "query", "query Me { service { version } }");
    await page.locator(".graphiql-query-editor").getByText("version").hover();
    await page.locator(".CodeMirror-info").getByText(await described("Service", "version")).waitFor();
    await page.mouse.move(0, 0);
  },

  async "streams an answer, goes on after a reload in its middle, and shows it whole"() {
    const name = `browser-${unique}`;
    sent = await watch(page, name);
    await page.getByText("Live", { exact: true }).waitFor();
    const before = await events(page);
    const cursor = await page.locator("[data-last-cursor]").innerText();
    assert.equal(cursor, before.at(-1).cursor);
    await shoot(page, "stream");
    // The editors write down what is in them a moment later.
    await until("what the editors keep", () => page.evaluate((id) => sessionStorage.getItem("graphiql:tabState").includes(id), sent.conversation.id));
    await page.reload();
    await page.getByText("Live", { exact: true }).waitFor();
    assert.equal(await page.locator("[data-resumed]").innerText(), cursor);
    assert.equal(await text(page), WORDS.slice(0, 4).join(""));
    assert.equal(JSON.parse(await page.evaluate(() => document.querySelector('[aria-label="Variables"] .CodeMirror, .graphiql-editor-tool .CodeMirror').CodeMirror.getValue())).conversation, sent.conversation.id);
    assert.equal(await page.locator(".graphiql-tab-button").count(), 4, "the reload made another tab");
    await until("the panel in view", async () => (await page.locator(".weft-stream").boundingBox())?.x > 0);
    await control("POST", `gates/${name}`);
    await assertWhole(page, sent);
    assert.deepEqual((await events(page)).slice(0, before.length), before);
    await shoot(page, "stream-whole");
  },

  async "goes on by itself where the connection is cut"() {
    const cut = await watched();
    let socket;
    let sockets = 0;
    await cut.routeWebSocket(/graphql/, (route) => {
      sockets += 1;
      socket = route;
      route.connectToServer();
    });
    await cut.goto(weft);
    await signIn(cut);
    const name = `browser-cut-${unique}`;
    const asked = await watch(cut, name);
    await socket.close({ code: 1012, reason: "away" });
    await control("POST", `gates/${name}`);
    await assertWhole(cut, asked);
    assert.equal(sockets, 2);
    await cut.close();
  },

  async "lets a stream go on beside another tab, and stops it when told"() {
    const name = `browser-tab-${unique}`;
    const asked = await watch(page, name);
    await tab(page, "Me");
    await start(page);
    await answer(page, ({ data }) => data?.service);
    await new Promise((done) => setTimeout(done, 500));
    await page.getByText("Live", { exact: true }).waitFor();
    await control("POST", `gates/${name}`);
    await assertWhole(page, asked);
    await page.locator(".weft-stream").getByRole("button", { name: "Stop" }).click();
    await page.getByText("Stopped", { exact: true }).waitFor();
    await page.locator(".weft-stream").getByRole("button", { name: "Go on" }).click();
    await page.getByText("Live", { exact: true }).waitFor();
    await page.locator(".weft-stream").getByRole("button", { name: "Clear" }).click();
    await page.getByText("Run a subscription").waitFor();
    // GraphiQL's own button stops one as well.
    await tab(page, "Watch");
    await start(page);
    await page.getByText("Live", { exact: true }).waitFor();
    await start(page);
    await page.getByText("Stopped", { exact: true }).waitFor();
  },

  async "asks for the cursor by itself, and makes `after` a variable"() {
    await tab(page, "Watch");
    await write(page, "query", `subscription { runEvents(runId: "${sent.run.id}") { ... on TextDelta { messageId part offset text } } }`);
    await write(page, "variable", "{}");
    await start(page);
    await page.getByText("Ended", { exact: true }).waitFor();
    assert.equal(await text(page), TEXT);
    assert.match((await events(page)).at(-1).cursor, /\S{3}/);
    const shown = await answer(page, ({ data }) => data);
    assert.deepEqual(Object.keys(shown.data.runEvents), [], "what the page asked for besides is shown");
    await page.locator(".weft-stream").getByRole("button", { name: "Go on" }).click();
    await page.getByText("Ended", { exact: true }).waitFor();
    await page.locator(".weft-stream").getByText("Clear").click();
  },

  async "says plainly why a subscription fails"() {
    await write(page, "query", `subscription { conversationEvents(conversationId: "${sent.run.id}") { cursor } }`);
    await start(page);
    await page.getByText("Failed", { exact: true }).waitFor();
    await shoot(page, "stream-failed");
    await page.locator(".weft-stream").getByText("Clear").click();
  },

  async "renews the session, and the socket's token by a ping"() {
    const old = await watched();
    await old.clock.install();
    const pings = [];
    old.on("websocket", (socket) => socket.on("framesent", ({ payload }) => /"ping"/.test(payload) && /Authorization/.test(payload) && pings.push(JSON.parse(payload))));
    await old.goto(weft);
    await signIn(old);
    const before = await credential(old);
    const name = `browser-renewed-${unique}`;
    const asked = await watch(old, name);
    await old.clock.fastForward(59 * 60_000);
    await until("a new token", async () => (await credential(old)).access !== before.access);
    await until("a ping that holds it", () => pings.length > 0);
    assert.equal(pings[0].payload.Authorization, `Bearer ${(await credential(old)).access}`);
    await control("POST", `gates/${name}`);
    await untilEnd(old);
    assert.equal(await text(old), TEXT);
    assert.equal((await ask("query ($id: ID!) { run(id: $id) { status } }", { id: asked.run.id })).run.status, "COMPLETED");
    await old.close();
  },

  async "says so when the session has ended"() {
    const ended = await watched();
    await ended.goto(weft);
    await signIn(ended);
    const { access } = await credential(ended);
    await fetch(`${weft}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${access}` },
      body: '{"query": "mutation { signOut(input: {}) { ended } }"}',
    });
    await ended.reload();
    await ended.getByText("Your session has ended").waitFor();
    meant(/401/);
    await ended.close();
  },

  async "takes an API key in place of a password"() {
    const { createApiKey } = await ask(`mutation { createApiKey(input: { name: "browser", kind: PERSONAL }) { secret errors { message } } }`);
    const keyed = await watched();
    await keyed.goto(weft);
    await keyed.getByRole("button", { name: "Use an API key" }).click();
    await keyed.getByLabel("API key").fill("nonsense");
    await keyed.getByRole("button", { name: "Use this key" }).click();
    await keyed.getByRole("alert").waitFor();
    meant(/401/);
    await keyed.getByLabel("API key").fill(createApiKey.secret);
    await keyed.getByRole("button", { name: "Use this key" }).click();
    await keyed.getByText("by API key").waitFor();
    await tab(keyed, "Watch");
    await write(keyed, "variable", JSON.stringify({ conversation: sent.conversation.id, after: sent.cursor }));
    await start(keyed);
    await until("the text", async () => (await text(keyed).catch(() => "")) === TEXT);
    await keyed.close();
  },

  async "is readable in the dark and on a narrow screen"() {
    const dark = await watched();
    await dark.emulateMedia({ colorScheme: "dark" });
    await dark.goto(weft);
    await dark.getByRole("heading", { name: "Sign in to Weft" }).waitFor();
    await shoot(dark, "sign-in-dark");
    await signIn(dark);
    await tab(dark, "Watch");
    await write(dark, "variable", JSON.stringify({ conversation: sent.conversation.id, after: sent.cursor }));
    await start(dark);
    await until("the text", async () => (await text(dark).catch(() => "")) === TEXT);
    await shoot(dark, "stream-dark");
    await dark.setViewportSize({ width: 800, height: 700 });
    await shoot(dark, "stream-narrow");
    await dark.close();
  },

  async "left the machine for nobody, and broke no rule"() {
    assert.deepEqual(foreign, []);
    assert.deepEqual(wrongs, []);
  },

  async "forbids what its policy forbids"() {
    const strict = await context.newPage();
    await strict.goto(weft);
    const tried = await strict.evaluate(async () => {
      const violations = [];
      addEventListener("securitypolicyviolation", ({ effectiveDirective }) => violations.push(effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "window.inline = true";
      document.body.append(script);
      const style = document.createElement("style");
      style.textContent = "body { color: red }";
      document.body.append(style);
      // Apart from the tool's own call, which may evaluate.
      const evaluated = await new Promise((done) => setTimeout(() => {
        try {
          done(Boolean(globalThis["eval"]("1")));
        } catch {
          done(false);
        }
      }));
      const fetched = await fetch("http://evil.example/").then(() => true, () => false);
      await new Promise((done) => setTimeout(done, 100));
      return { inline: "inline" in window, evaluated, fetched, violations: [...new Set(violations)].sort() };
    });
    assert.deepEqual(tried, {
      inline: false, evaluated: false, fetched: false, violations: ["connect-src", "script-src", "script-src-elem", "style-src-elem"],
    });
    await strict.close();
  },

  async "lets no page of another origin in"() {
    const other = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html><title>Another</title>"));
    await new Promise((done) => other.listen(0, "127.0.0.1", done));
    const origin = `http://127.0.0.1:${other.address().port}`;
    const refused = [];
    try {
      const theirs = await context.newPage();
      theirs.on("response", (response) => new URL(response.url()).host === host && refused.push(`${response.request().method()} ${response.status()}`));
      await theirs.goto(origin);
      const before = await ask("{ agents(first: 1) { totalCount } }");
      const tried = await theirs.evaluate(async ({ weft, token }) => {
        const tell = (promise) => promise.then((value) => value, (error) => `no: ${error.constructor.name}`);
        const body = JSON.stringify({ query: "{ service { name } }" });
        const change = JSON.stringify({ query: 'mutation { createAgent(input: { name: "Foreign", instructions: "x" }) { agent { id } } }' });
        const json = { "content-type": "application/json" };
        const url = `${weft}/graphql`;
        const socket = new WebSocket(url.replace("http", "ws"), "graphql-transport-ws");
        const opened = new Promise((done) => {
          socket.onopen = () => done("opened");
          socket.onclose = ({ code }) => done(`no: ${code}`);
        });
        const frame = document.createElement("iframe");
        frame.src = `${weft}/`;
        const framed = new Promise((done) => (frame.onload = () => setTimeout(() => done(frame.contentDocument === null ? "nothing to see" : "blank"), 100)));
        document.body.append(frame);
        return {
          post: await tell(fetch(url, { method: "POST", headers: json, body }).then((r) => r.text())),
          change: await tell(fetch(url, { method: "POST", headers: { ...json, authorization: `Bearer ${token}` }, body: change }).then((r) => r.text())),
          // Requests that need no leave from the server: they are sent, and the server must refuse them.
          simple: await tell(fetch(url, { method: "POST", mode: "no-cors", headers: { "content-type": "text/plain" }, body: change }).then((r) => r.type)),
          form: await tell(fetch(url, { method: "POST", mode: "no-cors", body: new URLSearchParams({ query: "{ service { name } }" }) }).then((r) => r.type)),
          get: await tell(fetch(`${url}?query=${encodeURIComponent("{ service { name } }")}`).then((r) => r.text())),
          sdl: await tell(fetch(`${weft}/schema.graphql`).then((r) => r.text())),
          script: await new Promise((done) => {
            const script = document.createElement("script");
            script.src = `${weft}/page/page.js`;
            script.onload = () => done("loaded");
            script.onerror = () => done("no");
            document.body.append(script);
          }),
          socket: await opened,
          frame: await framed,
        };
      }, { weft, token });
      assert.deepEqual(tried, {
        post: "no: TypeError", change: "no: TypeError", simple: "opaque", form: "opaque", get: "no: TypeError", sdl: "no: TypeError", script: "no",
        socket: "no: 1006", frame: "nothing to see",
      });
      // The two that were sent were refused for whose they were.
      assert.equal(refused.filter((one) => one === "POST 403").length, 2, JSON.stringify(refused));
      const framed = theirs.frames().find((frame) => frame !== theirs.mainFrame());
      assert(!framed || (await framed.locator("#page").count().catch(() => 0)) === 0, "the page is shown in a frame");
      assert.deepEqual(await ask("{ agents(first: 1) { totalCount } }"), before);
      // From no origin at all: a frame without one of its own.
      const opaque = await theirs.evaluate((weft) => new Promise((done) => {
        addEventListener("message", ({ data }) => done(data));
        const frame = document.createElement("iframe");
        frame.sandbox = "allow-scripts";
        frame.srcdoc = `<script>
          const s = new WebSocket("${weft.replace("http", "ws")}/graphql", "graphql-transport-ws");
          s.onopen = () => parent.postMessage("opened", "*");
          s.onclose = () => parent.postMessage("no", "*");
        </script>`;
        document.body.append(frame);
      }), weft);
      assert.equal(opaque, "no");
      await theirs.close();
    } finally {
      other.close();
    }
  },

  async "is not there under a foreign name"() {
    const rebound = await context.newPage();
    for (const path of ["/", "/page/page.js", "/schema.graphql", "/graphql?query=%7Bservice%7Bname%7D%7D"]) {
      const response = await rebound.goto(`http://evil.example:${port}${path}`);
      assert.equal(response.status(), 421, path);
    }
    const tried = await rebound.evaluate(async (port) => {
      const body = JSON.stringify({ query: "{ service { name } }" });
      const response = await fetch(`http://evil.example:${port}/graphql`, { method: "POST", headers: { "content-type": "application/json" }, body });
      const socket = new WebSocket(`ws://evil.example:${port}/graphql`, "graphql-transport-ws");
      const opened = await new Promise((done) => {
        socket.onopen = () => done(true);
        socket.onclose = () => done(false);
      });
      return { status: response.status, data: (await response.json()).data ?? null, opened };
    }, port);
    assert.deepEqual(tried, { status: 421, data: null, opened: false });
    await rebound.close();
  },
};

const only = process.env.ONLY && new RegExp(process.env.ONLY);
let failed = 0;
let passed = 0;
for (const [name, test] of Object.entries(tests)) {
  if (only && !only.test(name)) continue;
  try {
    await test();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error?.stack ?? JSON.stringify(error)}`);
    if (page) await shoot(page, "failed").catch(() => {});
    // What follows builds on it.
    break;
  }
}
await context.close();
rmSync(profile, { recursive: true, force: true });
console.log(`the page in Chromium: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
