// Who uses the page. Credentials are kept in `sessionStorage`: for this tab alone, and for as long as it is open.
import { ask, post, Refused, said, type Asked } from "./graph";

const KEPT = "weft.credential";

/** An access token is renewed so long before it ends. */
const EARLY_MS = 120_000;
/** And never more often than this, should the two clocks differ by a lot. */
const SELDOM_MS = 30_000;
/** After an attempt that did not reach the server. */
const AGAIN_MS = 10_000;

/** By what the page shows who asks. */
type Credential = { kind: "session"; access: string; refresh: string; renewAt: number } | { kind: "key"; key: string };

/** The person of the credential. */
export interface Viewer {
  user: { name: string; email: string };
  tenant: { name: string; slug: string };
  role: string;
  credential: string;
}

/** What the sign-in form asks for. */
export interface SignIn {
  email: string;
  password: string;
  tenant?: string;
}

/** What the form of the first user asks for. */
export interface SetUp {
  email: string;
  password: string;
  name: string;
  tenantName: string;
  token?: string;
}

/** A field of a form and what is wrong with it. */
export class Faulty extends Refused {
  /** By the name of the input field. */
  readonly fields: Map<string, string>;

  constructor(errors: { message: string; path: string[] | null }[]) {
    super(errors.map(({ message }) => message).join(" "));
    this.fields = new Map(errors.filter(({ path }) => path?.length).map(({ path, message }) => [path!.at(-1)!, message]));
  }
}

interface Pair {
  accessToken: string | null;
  refreshToken: string | null;
  expiresAt: string | null;
  errors: { message: string; path: string[] | null }[];
}

const PAIR = "accessToken refreshToken expiresAt errors { message path }";
const ME: Asked = { query: "{ viewer { user { name email } tenant { name slug } role credential } }" };

function kept(): Credential | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "null") as Credential | null;
  } catch {
    return null;
  }
}

/** What the page knows of who uses it; the same object until it changes. */
export interface Known {
  /** Undefined while that is being asked. */
  viewer: Viewer | null | undefined;
  /** Why one that was there is gone. */
  ended: string | null;
}

class Session {
  #credential = kept();
  #known: Known = { viewer: undefined, ended: null };
  #renewing: Promise<void> | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #watchers = new Set<() => void>();
  readonly #renewed = new Set<(token: string) => void>();

  readonly watch = (watcher: () => void) => {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  };
  readonly known = () => this.#known;

  /** Tells of each new access token of the session. */
  whenRenewed(listener: (token: string) => void) {
    this.#renewed.add(listener);
    return () => void this.#renewed.delete(listener);
  }

  /** Finds out who the kept credential is, if there is one. */
  async begin() {
    if (!this.#credential) return this.#tell({ viewer: null, ended: null });
    this.#plan();
    await this.#look();
  }

  /** A credential for the next request; renewed before, where it is about to end. */
  async token(): Promise<string | undefined> {
    const credential = this.#credential;
    if (credential?.kind === "session" && Date.now() >= credential.renewAt) await this.renew();
    return this.#credential?.kind === "key" ? this.#credential.key : this.#credential?.access;
  }

  /** Whether asking for another token may help after one was refused. */
  get canRenew() {
    return this.#credential?.kind === "session";
  }

  /** Takes the next pair of tokens; once, however many ask for it at a time. */
  renew(): Promise<void> {
    this.#renewing ??= this.#renew().finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  async signIn(input: SignIn) {
    const query = `mutation SignIn($input: SignInInput!) { signIn(input: $input) { ${PAIR} } }`;
    const { signIn } = await ask<{ signIn: Pair }>({ query, variables: { input } });
    this.#take(signIn);
    await this.#look();
  }

  async setUp(input: SetUp) {
    const query = `mutation SetUp($input: SetUpInput!) { setUp(input: $input) { ${PAIR} } }`;
    const { setUp } = await ask<{ setUp: Pair }>({ query, variables: { input } });
    this.#take(setUp);
    await this.#look();
  }

  /** Goes on with an API key, if there is somebody behind it. */
  async useKey(key: string) {
    const { viewer } = await ask<{ viewer: Viewer | null }>(ME, key);
    if (!viewer) throw new Refused("Nobody stands behind this key.");
    this.#keep({ kind: "key", key });
    this.#tell({ viewer, ended: null });
  }

  /** Forgets the credential, and ends a session at the server, too: that may be under way when the page is left. */
  async signOut() {
    const token = this.canRenew ? await this.token().catch(() => undefined) : undefined;
    this.#keep(null);
    clearTimeout(this.#timer);
    const query = "mutation SignOut { signOut(input: {}) { ended errors { message } } }";
    if (token) post({ query }, token, {}, true).catch(() => undefined);
  }

  async #look(): Promise<void> {
    try {
      const { viewer } = await ask<{ viewer: Viewer | null }>(ME, await this.token());
      this.#tell({ viewer, ended: null });
    } catch (error) {
      if (error instanceof Refused && error.code === "UNAUTHENTICATED") {
        // what it throws has been told
        if (this.canRenew) return this.renew().then(() => this.#look(), () => undefined);
        return this.#end("This key is no longer good.");
      }
      // The server is away: whoever it is can look at the page, and asks again by doing something.
      this.#tell({ viewer: null, ended: error instanceof Error ? error.message : String(error) });
    }
  }

  async #renew() {
    const credential = this.#credential;
    if (credential?.kind !== "session") return;
    const query = `mutation Renew($input: RefreshSessionInput!) { refreshSession(input: $input) { ${PAIR} } }`;
    const { data, errors } = await post({ query, variables: { input: { refreshToken: credential.refresh } } });
    // Signed out, or in as somebody else, meanwhile.
    if (this.#credential !== credential) return;
    const pair = data?.refreshSession as Pair | undefined;
    if (pair?.accessToken) {
      this.#take(pair);
      for (const listener of this.#renewed) listener(pair.accessToken);
      return;
    }
    const refused = errors?.length ? new Refused(said(errors), errors[0]!.extensions?.code as string) : new Refused("The session has ended.");
    if (!errors?.length || refused.code === "UNAUTHENTICATED") this.#end("Your session has ended: sign in again.");
    throw refused;
  }

  #take({ accessToken, refreshToken, expiresAt, errors }: Pair) {
    if (errors.length > 0) throw new Faulty(errors);
    if (!accessToken || !refreshToken) throw new Refused("The server gave no token.");
    const ends = expiresAt ? Date.parse(expiresAt) : Date.now() + 3_600_000;
    const renewAt = Math.max(ends - EARLY_MS, Date.now() + SELDOM_MS);
    this.#keep({ kind: "session", access: accessToken, refresh: refreshToken, renewAt });
    this.#plan();
  }

  #keep(credential: Credential | null) {
    this.#credential = credential;
    if (credential) sessionStorage.setItem(KEPT, JSON.stringify(credential));
    else sessionStorage.removeItem(KEPT);
  }

  #end(why: string) {
    this.#keep(null);
    this.#tell({ viewer: null, ended: why });
  }

  /** Renews in time also where nobody asks for anything: a socket lives by it. */
  #plan(again = 0) {
    clearTimeout(this.#timer);
    const credential = this.#credential;
    if (credential?.kind !== "session") return;
    const wait = Math.max(credential.renewAt - Date.now(), again);
    // What it throws has been told; where the server was away, it is tried again.
    this.#timer = setTimeout(() => void this.renew().catch(() => this.#plan(AGAIN_MS)), wait);
  }

  #tell(known: Known) {
    this.#known = known;
    for (const watcher of this.#watchers) watcher();
  }
}

/** Whose things those of a viewer are. */
export const ownerOf = (viewer: Viewer | null | undefined): string => (viewer ? `${viewer.user.email} in ${viewer.tenant.slug}` : "nobody");

/** The page's one session. */
export const session = new Session();
