// The stream that the page shows: a subscription, its events with their cursors, and going on after the last of them, be it that
// the network went, the server, or the page itself.
import type { GraphQLSchema } from "graphql";
import { CloseCode, createClient, type Client } from "graphql-ws";
import { bringsCredential, codeOf, GRAPH, Refused, said, type Asked, type Headers } from "./graph";
import { ownerOf, session } from "./session";
import { prepare, read, type Subscription } from "./subscription";
import { heard, type Part } from "./text";

const KEPT = "weft.stream";

/** Events that are kept to be shown. */
const SHOWN = 300;
/** And where the browser has no room for them. */
const FEW = 20;
/** How often the state is written down while events come. */
const WRITE_MS = 250;
/** The longest wait before another attempt to connect. */
const MAX_WAIT_MS = 10_000;

/** How a stream stands. */
export type State = "connecting" | "live" | "reconnecting" | "stopped" | "ended" | "failed";

/** An event as it is listed. */
export interface Shown {
  number: number;
  at: number;
  kind: string | null;
  cursor: string | null;
  event: Record<string, unknown>;
}

/** All that there is to a stream; a new object with each change. */
export interface Stream {
  subscription: Subscription;
  headers: Headers;
  /** Who began it. */
  owner: string;
  state: State;
  /** Why, for people, where there is something to say. */
  why: string | null;
  /** Of the last event seen. */
  cursor: string | null;
  count: number;
  events: readonly Shown[];
  parts: readonly Part[];
  /** After which cursor it was taken up again in this page, if it was. */
  resumed: string | null;
}

/** What comes of a subscription, for whoever started it. */
interface Listener {
  next(result: Record<string, unknown>): void;
  error(error: unknown): void;
  complete(): void;
}

const goesOn = (state: State) => state === "connecting" || state === "live" || state === "reconnecting";

function kept(): Stream | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "null") as Stream | null;
  } catch {
    return null;
  }
}

class Streams {
  #now: Stream | null = kept();
  #client: Client | null = null;
  #writing: ReturnType<typeof setTimeout> | undefined;
  readonly #watchers = new Set<() => void>();

  constructor() {
    addEventListener("pagehide", () => this.#write());
  }

  readonly watch = (watcher: () => void) => {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  };
  readonly now = () => this.#now;

  /** Begins a stream, in place of the one before. */
  start(asked: Asked, headers: Headers, schema: GraphQLSchema | null, listener?: Listener) {
    const subscription = prepare(asked, schema);
    this.#close();
    const cursor = subscription.after ? subscription.variables[subscription.after] : null;
    this.#set({
      subscription, headers, owner: ownerOf(session.known().viewer), state: "connecting", why: null, count: 0, events: [], parts: [], resumed: null,
      cursor: typeof cursor === "string" && cursor !== "" ? cursor : null,
    });
    this.#connect(listener);
  }

  /** Takes up what was under way when the page was left; forgets what was somebody else's. */
  resume(owner: string) {
    if (!this.#now || this.#client) return;
    if (this.#now.owner !== owner) this.forget();
    else if (goesOn(this.#now.state)) this.goOn();
  }

  /** Goes on after the last cursor; from now, where there is none. */
  goOn() {
    if (!this.#now || this.#client) return;
    this.#set({ ...this.#now, state: "connecting", why: null, resumed: this.#now.cursor });
    this.#connect();
  }

  stop() {
    this.#close();
    if (this.#now && goesOn(this.#now.state)) this.#set({ ...this.#now, state: "stopped", why: null });
  }

  /** Stops it and forgets what came. */
  forget() {
    this.#close();
    this.#set(null);
  }

  #close() {
    const client = this.#client;
    this.#client = null;
    void client?.dispose();
  }

  #connect(listener?: Listener) {
    const { subscription, headers } = this.#now!;
    const { root, after } = subscription;
    // graphql-ws sends this object anew with each connection, so that it is enough to keep the cursor in it.
    const variables = { ...subscription.variables };
    if (after && this.#now!.cursor) variables[after] = this.#now!.cursor;
    let socket: WebSocket | null = null;
    let refused = false;
    const ours = !bringsCredential(headers);
    const client = createClient({
      url: GRAPH.href.replace(/^http/, "ws"),
      connectionParams: async () => {
        if (refused && session.canRenew) await session.renew();
        const token = ours ? await session.token() : undefined;
        return { ...(token && { Authorization: `Bearer ${token}` }), ...headers };
      },
      keepAlive: 20_000,
      retryAttempts: Number.POSITIVE_INFINITY,
      // A credential that was refused is renewed once; anything else that closes a socket passes, but for what the protocol forbids.
      shouldRetry: (event) => {
        const forbidden = event instanceof CloseEvent && event.code === CloseCode.Forbidden;
        if (forbidden && (refused || !ours || !session.canRenew)) return false;
        refused = forbidden;
        return event instanceof CloseEvent || event instanceof Event;
      },
      retryWait: (attempt) => new Promise((done) => setTimeout(done, Math.min(MAX_WAIT_MS, 250 * 2 ** attempt) * (0.75 + Math.random() / 2))),
      on: {
        opened: (opened) => (socket = opened as WebSocket),
        connected: () => {
          refused = false;
          this.#change(client, { state: "live", why: null });
        },
        closed: () => {
          socket = null;
          this.#change(client, { state: "reconnecting", why: "The connection is gone; trying again." });
        },
      },
    });
    this.#client = client;
    // A socket's token is renewed by a ping that holds it.
    const unwatch = session.whenRenewed((token) => {
      if (ours && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "ping", payload: { Authorization: `Bearer ${token}` } }));
    });
    const finish = (state: State, why: string | null) => {
      unwatch();
      if (this.#client !== client) return;
      this.#client = null;
      this.#set({ ...this.#now!, state, why });
      void client.dispose();
    };
    const { query, operationName } = subscription;
    client.subscribe<Record<string, unknown>>({ query, operationName: operationName ?? undefined, variables }, {
      next: (result) => {
        if (this.#client !== client) return;
        const told = result.data && read(subscription, result.data);
        if (told) {
          if (after && told.cursor) variables[after] = told.cursor;
          this.#see(told.event, told.kind, told.cursor);
        }
        listener?.next(told ? { ...result, data: { ...result.data, [root]: told.event } } : { ...result });
      },
      error: (error) => {
        finish("failed", plainly(error));
        listener?.error(error);
      },
      complete: () => {
        finish("ended", "The server has told all that there is.");
        listener?.complete();
      },
    });
  }

  #see(event: Record<string, unknown>, kind: string | null, cursor: string | null) {
    const now = this.#now!;
    const number = now.count + 1;
    const events = [...now.events.slice(1 - SHOWN), { number, at: Date.now(), kind, cursor, event }];
    this.#set({ ...now, count: number, events, cursor: cursor ?? now.cursor, parts: heard(now.parts, kind, event) });
  }

  #change(client: Client, change: Partial<Stream>) {
    if (this.#client === client && this.#now) this.#set({ ...this.#now, ...change });
  }

  #set(stream: Stream | null) {
    this.#now = stream;
    this.#writing ??= setTimeout(() => this.#write(), WRITE_MS);
    for (const watcher of this.#watchers) watcher();
  }

  /** Cursor, text and events are written as one, so that what is gone on with is always what was seen. */
  #write() {
    clearTimeout(this.#writing);
    this.#writing = undefined;
    const now = this.#now;
    if (!now) return sessionStorage.removeItem(KEPT);
    for (const events of [now.events, now.events.slice(-FEW), []]) {
      try {
        return sessionStorage.setItem(KEPT, JSON.stringify({ ...now, events }));
      } catch {
        // no room: with fewer of them
      }
    }
    return sessionStorage.removeItem(KEPT);
  }
}

/** Why a subscription failed, for people. */
export function plainly(error: unknown): string {
  if (Array.isArray(error)) {
    const why = said(error);
    return codeOf(error[0]) === "CURSOR_EXPIRED" ? `${why} Start the subscription again without a cursor.` : why;
  }
  if (error instanceof CloseEvent) return error.reason ? `${error.reason} (${error.code})` : `The connection was closed (${error.code}).`;
  if (error instanceof Refused || error instanceof Error) return error.message;
  return "The connection failed.";
}

/** The page's one stream. */
export const streams = new Streams();
