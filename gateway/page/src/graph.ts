// How the page asks: over HTTP, with a credential that is handed to it.
import type { ExecutionResult, GraphQLFormattedError } from "graphql";

/** Where the graph is: beside the page, also where a proxy serves both below a path. */
export const GRAPH = new URL("graphql", location.href.replace(/[?#].*$/, ""));

/** A document and what belongs to it. */
export interface Asked {
  query: string;
  variables?: Record<string, unknown> | null;
  operationName?: string | null;
}

/** Headers, as the page's editor gives them. */
export type Headers = Record<string, string>;

/** An answer that says why there is no data, in one sentence for people. */
export class Refused extends Error {
  /** The code of the first error, by which programs tell what to do. */
  readonly code: string | undefined;

  constructor(message: string, code?: string) {
    super(message);
    this.name = "Refused";
    this.code = code;
  }
}

/** The code that an error of the graph carries. */
export const codeOf = (error: { extensions?: unknown } | undefined): string | undefined => {
  const code = (error?.extensions as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : undefined;
};

/** One sentence of several errors. */
export const said = (errors: readonly GraphQLFormattedError[]): string => errors.map(({ message }) => message).join("; ");

/** Whether the headers bring a credential of their own. */
export const bringsCredential = (headers: Headers): boolean => Object.keys(headers).some((name) => /^(authorization|x-api-key)$/i.test(name));

/** Asks, and answers what the server said, errors included. With `outlive`, the request is finished also when the page is left. */
export async function post(asked: Asked, token?: string, headers: Headers = {}, outlive = false): Promise<ExecutionResult> {
  let response;
  try {
    response = await fetch(GRAPH, {
      method: "POST",
      headers: {
        accept: "application/graphql-response+json, application/json",
        "content-type": "application/json",
        ...(token && !bringsCredential(headers) && { authorization: `Bearer ${token}` }),
        ...headers,
      },
      body: JSON.stringify(asked),
      credentials: "omit",
      redirect: "error",
      cache: "no-store",
      keepalive: outlive,
    });
  } catch {
    throw new Refused("The server cannot be reached. Is it running?");
  }
  try {
    return (await response.json()) as ExecutionResult;
  } catch {
    throw new Refused(`The server answered ${response.status} without a word that can be read.`);
  }
}

/** Asks for a document in which nothing may go wrong. */
export async function ask<Data>(asked: Asked, token?: string): Promise<Data> {
  const { data, errors } = await post(asked, token);
  if (errors?.length) throw new Refused(said(errors), codeOf(errors[0]));
  return data as Data;
}
