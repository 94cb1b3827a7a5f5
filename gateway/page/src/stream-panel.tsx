// The panel that shows the page's stream: how it stands, the text that it makes, and each event with its cursor.
import { useEffect, useRef, useSyncExternalStore } from "react";
import { streams, type Shown, type State, type Stream } from "./stream";

const STATES: Record<State, string> = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  stopped: "Stopped",
  ended: "Ended",
  failed: "Failed",
};

const isOn = (state: State) => state === "connecting" || state === "live" || state === "reconnecting";

/** What stands in an event's line: what it says, less what has a place of its own. */
function gist({ __typename: _, cursor: __, ...rest }: Record<string, unknown>): string {
  return typeof rest.text === "string" ? JSON.stringify(rest.text) : Object.keys(rest).length > 0 ? JSON.stringify(rest) : "";
}

/** Cursors of one log begin alike. */
const ending = (cursor: string) => (cursor.length > 10 ? `…${cursor.slice(-8)}` : cursor);

function Line({ number, at, kind, cursor, event }: Shown) {
  return (
    <li className="weft-event">
      <details>
        <summary title={new Date(at).toLocaleTimeString()}>
          <span className="weft-number">{number}</span>
          <span className="weft-kind">{kind ?? "Event"}</span>
          <span className="weft-gist">{gist(event)}</span>
          <code className="weft-cursor" data-cursor={cursor} title={cursor ? `Cursor ${cursor}` : "No cursor"}>{cursor ? ending(cursor) : "–"}</code>
        </summary>
        <pre>{JSON.stringify(event, null, 2)}</pre>
      </details>
    </li>
  );
}

/** The texts under way, a message apart from the next. */
function Text({ parts }: Pick<Stream, "parts">) {
  const messages = [...new Set(parts.map(({ message }) => message))];
  return messages.map((message) => (
    <blockquote key={message} className="weft-text" data-message={message}>
      {parts.filter((one) => one.message === message).sort((one, other) => one.part - other.part).map(({ text, from }) => (from > 0 ? `… ${text}` : text)).join("\n")}
    </blockquote>
  ));
}

/** The panel. */
export function StreamPanel() {
  const stream = useSyncExternalStore(streams.watch, streams.now);
  const list = useRef<HTMLOListElement>(null);
  const count = stream?.count;
  useEffect(() => {
    const element = list.current;
    // Follows the end, unless somebody has scrolled up to read.
    if (element && element.scrollHeight - element.scrollTop - element.clientHeight < 120) element.scrollTop = element.scrollHeight;
  }, [count]);
  if (!stream) {
    return (
      <section className="weft-stream">
        <h2>Stream</h2>
        <p>Run a subscription: its events are listed here as they come, each with its cursor, and the text of an answer as it grows.</p>
        <p>Reload the page in the middle of one, or lose the network: it goes on after the last cursor, and nothing is missed.</p>
      </section>
    );
  }
  const { state, why, cursor, events, parts, subscription, resumed } = stream;
  const what = subscription.operationName ?? subscription.root;
  return (
    <section className="weft-stream" aria-label="Stream">
      <h2>Stream</h2>
      <div className="weft-state">
        <span className={`weft-badge weft-${state}`} role="status">{STATES[state]}</span>
        <strong>{what}</strong>
        <span className="weft-buttons">
          {isOn(state)
            ? <button type="button" onClick={() => streams.stop()}>Stop</button>
            : <button type="button" onClick={() => streams.goOn()} title={cursor ? `After ${cursor}` : "From now"}>{state === "failed" ? "Try again" : "Go on"}</button>}
          <button type="button" onClick={() => streams.forget()} title="Stop it and forget its events">Clear</button>
        </span>
      </div>
      {why && <p className={state === "failed" ? "weft-wrong" : "weft-quiet"}>{why}</p>}
      <dl className="weft-facts">
        <dt>Events</dt><dd>{count}</dd>
        <dt>Last cursor</dt><dd><code data-last-cursor="">{cursor ?? "none yet"}</code></dd>
        {resumed && <><dt>Went on after</dt><dd><code data-resumed="">{resumed}</code></dd></>}
      </dl>
      {!subscription.after && <p className="weft-quiet">This one can't be gone on with: its field takes no cursor.</p>}
      <Text parts={parts} />
      <ol className="weft-events" ref={list} tabIndex={0} aria-label="Events">{events.map((event) => <Line key={event.number} {...event} />)}</ol>
    </section>
  );
}

/** Its sign in the sidebar. */
export function StreamIcon() {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" aria-hidden="true">
      <path d="M3 7c3-3 6 3 9 0s6 3 9 0M3 13c3-3 6 3 9 0s6 3 9 0M3 19c3-3 6 3 9 0s6 3 9 0" />
    </svg>
  );
}
