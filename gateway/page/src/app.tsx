// The page: a bar that says who is here, and below it the way in or GraphiQL.
import { explorerPlugin } from "@graphiql/plugin-explorer";
import { GraphiQL } from "graphiql";
import type { GraphQLSchema } from "graphql";
import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { EMPTY, EXAMPLES } from "./examples";
import { fetcher } from "./fetcher";
import { ask } from "./graph";
import { ownerOf, session, type Viewer } from "./session";
import { SignIn } from "./sign-in";
import { streams } from "./stream";
import { StreamIcon, StreamPanel } from "./stream-panel";

const EXPLORER = { ...explorerPlugin({ showAttribution: false }), title: "Explorer" };
const STREAM = { title: "Stream", icon: StreamIcon, content: StreamPanel };
const PLUGINS = [EXPLORER, STREAM];

/** The tab that was in front when GraphiQL last wrote its tabs down. */
function front(): Record<string, string | null> | undefined {
  try {
    const { tabs, activeTabIndex } = JSON.parse(sessionStorage.getItem("graphiql:tabState") ?? "null");
    return tabs[activeTabIndex];
  } catch {
    return undefined;
  }
}

/** Signed out: what GraphiQL still has to write down is no longer wanted. */
let isLeaving = false;

/** Queries, variables and the history may hold passwords and keys, so that they are kept for this tab of the browser alone. */
const STORAGE = {
  // GraphiQL keeps the texts in its editors twice, and opens another tab where the two differ: the tabs are the truth.
  getItem: (key: string) => {
    const [, part = ""] = /^graphiql:(query|variables|headers)$/.exec(key) ?? [];
    const tab = part && front();
    return tab ? (tab[part] ?? null) : sessionStorage.getItem(key);
  },
  setItem: (key: string, value: string) => {
    if (!isLeaving) sessionStorage.setItem(key, value);
  },
  removeItem: (key: string) => sessionStorage.removeItem(key),
  clear: () => Object.keys(sessionStorage).filter((key) => key.startsWith("graphiql:")).forEach((key) => sessionStorage.removeItem(key)),
  get length() {
    return sessionStorage.length;
  },
};

/** Opens the stream's panel. Only the button in the sidebar moves GraphiQL's panes, so that it is pressed. */
function showStream() {
  document.querySelector<HTMLButtonElement>(`.graphiql-sidebar button[aria-label="Show ${STREAM.title}"]`)?.click();
}

interface Service {
  version: string;
  needsSetup: boolean;
}

interface BarProps {
  viewer: Viewer | null;
  version: string;
  /** To the form, where it is not in view. */
  enter: (() => void) | undefined;
}

function Bar({ viewer, version, enter }: BarProps) {
  // The next person at this screen finds nothing of it: no query, no answer, no history.
  const leave = async () => {
    streams.forget();
    await session.signOut();
    isLeaving = true;
    STORAGE.clear();
    location.reload();
  };
  return (
    <header className="weft-bar">
      <span className="weft-name"><img src="page/icon.svg" alt="" width={20} height={20} /> Weft <span className="weft-quiet">{version}</span></span>
      <span className="weft-links"><a href="schema.graphql" target="_blank" rel="noreferrer">Schema</a></span>
      {viewer ? (
        <span className="weft-who">
          <span title={viewer.user.email}>{viewer.user.name}</span>
          <span className="weft-quiet">{viewer.tenant.name}, {viewer.role.toLowerCase()}{viewer.credential.endsWith("_KEY") && ", by API key"}</span>
          <button type="button" onClick={() => void leave()}>Sign out</button>
        </span>
      ) : (
        enter && <span className="weft-who"><span className="weft-quiet">Not signed in</span><button type="button" onClick={enter}>Sign in</button></span>
      )}
    </header>
  );
}

function Workbench() {
  const schema = useRef<GraphQLSchema | null>(null);
  const tab = useRef<string | null>(null);
  const run = useMemo(() => fetcher({ schema: () => schema.current, tab: () => tab.current, streaming: showStream }), []);
  useEffect(() => {
    // GraphiQL appears some moments after it was asked to.
    const page = new MutationObserver(() => {
      if (!document.querySelector(".graphiql-sidebar")) return;
      page.disconnect();
      requestAnimationFrame(() => requestAnimationFrame(showStream));
    });
    if (streams.now()) page.observe(document.getElementById("page")!, { childList: true, subtree: true });
    return () => page.disconnect();
  }, []);
  return (
    <GraphiQL
      fetcher={run as React.ComponentProps<typeof GraphiQL>["fetcher"]}
      plugins={PLUGINS}
      onSchemaChange={(next) => (schema.current = next)}
      onTabChange={({ tabs, activeTabIndex }) => (tab.current = tabs[activeTabIndex]?.id ?? null)}
      defaultTabs={EXAMPLES}
      defaultQuery={EMPTY}
      defaultEditorToolsVisibility="variables"
      inputValueDeprecation
      schemaDescription
      shouldPersistHeaders={false}
      storage={STORAGE}
    >
      <GraphiQL.Logo>{" "}</GraphiQL.Logo>
    </GraphiQL>
  );
}

/** Everything. */
export function App({ token }: { token: string | null }) {
  const { viewer, ended } = useSyncExternalStore(session.watch, session.known);
  const [service, setService] = useState<Service | null>(null);
  const [trouble, setTrouble] = useState<string | null>(null);
  const [isSkipping, setSkipping] = useState(false);
  useEffect(() => {
    ask<{ service: Service }>({ query: "{ service { version needsSetup } }" }).then(
      ({ service }) => setService(service),
      (error: Error) => setTrouble(error.message),
    );
  }, []);
  const owner = viewer ? ownerOf(viewer) : null;
  useEffect(() => {
    if (owner === null) return;
    setSkipping(false);
    streams.resume(owner);
  }, [owner]);
  if (trouble) return <main className="weft-card"><h1>Weft</h1><p className="weft-wrong" role="alert">{trouble}</p></main>;
  if (!service || viewer === undefined) return null;
  return (
    <>
      <Bar viewer={viewer} version={service.version} enter={isSkipping ? () => setSkipping(false) : undefined} />
      {viewer || isSkipping ? (
        // Another person's answers are not left on the screen.
        <div className="weft-workbench" key={ownerOf(viewer)}><Workbench /></div>
      ) : (
        <SignIn needsSetup={service.needsSetup} token={token} notice={ended} skip={() => setSkipping(true)} done={() => setService({ ...service, needsSetup: false })} />
      )}
    </>
  );
}
