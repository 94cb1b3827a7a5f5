// What GraphiQL runs: queries and mutations over HTTP, subscriptions as the page's stream.
import type { DocumentNode, ExecutionResult, GraphQLSchema } from "graphql";
import { parse } from "graphql";
import { bringsCredential, codeOf, post, type Asked, type Headers } from "./graph";
import { session } from "./session";
import { plainly, streams } from "./stream";
import { operationOf } from "./subscription";

/** What the page knows at the moment at which something is run. */
export interface Surroundings {
  schema(): GraphQLSchema | null;
  /** Which of the editor's tabs is in front. */
  tab(): string | null;
  /** A subscription begins. */
  streaming(): void;
}

/** How long GraphiQL takes to tell of another tab after it has ended what ran in the one before. */
const TAB_MS = 150;

/** What was parsed of a document; undefined for what is none: the server says what is wrong with it. */
function parsed(query: string): DocumentNode | undefined {
  try {
    return parse(query, { noLocation: true });
  } catch {
    return undefined;
  }
}

const headersOf = (given: unknown): Headers =>
  Object.fromEntries(Object.entries((given ?? {}) as Record<string, unknown>).map(([name, value]) => [name, String(value)]));

/** A fetcher for GraphiQL. */
export function fetcher(around: Surroundings) {
  return (given: Asked, options?: { headers?: unknown }) => {
    const headers = headersOf(options?.headers);
    const document = parsed(given.query);
    // The editor finds the operation's name a moment after the text has changed.
    const only = document && operationOf(document);
    const asked = only ? { ...given, operationName: only.name?.value } : given;
    if (document && operationOf(document, asked.operationName)?.operation === "subscription") return stream(asked, headers, around);
    return answer(asked, headers);
  };
}

async function answer(asked: Asked, headers: Headers): Promise<ExecutionResult> {
  const ours = !bringsCredential(headers);
  const first = await post(asked, ours ? await session.token() : undefined, headers);
  // Refused before anything ran: the token had ended, so that it can be asked again with another.
  if (ours && session.canRenew && first.data == null && codeOf(first.errors?.[0]) === "UNAUTHENTICATED") {
    await session.renew();
    return post(asked, await session.token(), headers);
  }
  return first;
}

function stream(asked: Asked, headers: Headers, around: Surroundings): AsyncIterableIterator<ExecutionResult> {
  const waiting: ExecutionResult[] = [];
  let done = false;
  let failure: unknown;
  let wake = () => {};
  const end = (error?: unknown) => {
    done = true;
    failure = error;
    wake();
  };
  const tab = around.tab();
  streams.start(asked, headers, around.schema(), {
    next: (result) => {
      waiting.push(result as ExecutionResult);
      wake();
    },
    error: (error) => end(Array.isArray(error) ? { errors: error } : new Error(plainly(error))),
    complete: () => end(),
  });
  const mine = streams.now()?.subscription;
  around.streaming();
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      while (waiting.length === 0 && !done) await new Promise<void>((woken) => (wake = woken));
      const value = waiting.shift();
      if (value) return { value, done: false };
      if (failure && !(failure instanceof Error)) {
        const value = failure as ExecutionResult;
        failure = undefined;
        return { value, done: false };
      }
      if (failure) throw failure;
      return { value: undefined, done: true };
    },
    async return() {
      const was = done;
      end();
      // GraphiQL ends what runs when another tab comes to the front: then the stream goes on beside it. Its stop button stops it.
      if (!was) setTimeout(() => around.tab() === tab && streams.now()?.subscription === mine && streams.stop(), TAB_MS);
      return { value: undefined, done: true };
    },
  };
}
