// All that a client of Weft needs beside what graphql-codegen made of its documents: a way to ask, and a way to follow.
import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { print, type ExecutionResult } from "graphql";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

/** A server. Each document says by its type which variables it takes, and what it answers. */
export class Weft {
  #token: string | undefined;

  constructor(readonly address: string) {}

  /** Asks as whoever holds this from here on. */
  use(token: string): void {
    this.#token = token;
  }

  get #headers(): Record<string, string> {
    return this.#token ? { authorization: `Bearer ${this.#token}` } : {};
  }

  /** The answer to a query or a mutation in which nothing went wrong. */
  async ask<Result, Variables extends Record<string, unknown>>(document: TypedDocumentNode<Result, Variables>, variables: NoInfer<Variables>): Promise<Result> {
    const response = await fetch(`${this.address}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/graphql-response+json", ...this.#headers },
      body: JSON.stringify({ query: print(document), variables }),
    });
    return whole((await response.json()) as ExecutionResult<Result>);
  }

  /** What a subscription tells, until one of both sides ends it. */
  async *follow<Result extends object, Variables extends Record<string, unknown>>(document: TypedDocumentNode<Result, Variables>, variables: NoInfer<Variables>): AsyncGenerator<Result> {
    const socket = createClient({ url: `${this.address.replace(/^http/, "ws")}/graphql`, webSocketImpl: WebSocket, connectionParams: this.#headers, retryAttempts: 0 });
    try {
      for await (const result of socket.iterate<Result>({ query: print(document), variables })) yield whole(result as ExecutionResult<Result>);
    } finally {
      await socket.dispose();
    }
  }
}

function whole<Result>({ data, errors }: ExecutionResult<Result>): Result {
  if (errors?.length || !data) throw new Error(`it was answered ${JSON.stringify(errors ?? data)}`);
  return data;
}
