// A WebSocket without a client's manners, for what published clients are too well-behaved to do.
import assert from "node:assert/strict";
import WebSocket from "ws";

export const PROTOCOL = "graphql-transport-ws";

export class Raw {
  /** An open socket on which nothing was said. */
  static async open(weft, protocols = [PROTOCOL], options = {}) {
    const raw = new Raw();
    raw.heard = [];
    raw.waiting = [];
    raw.socket = new WebSocket(weft.socket, protocols, options);
    raw.socket.on("message", (data, isBinary) => {
      assert(!isBinary, "the server sent a binary frame");
      raw.heard.push(JSON.parse(data));
      raw.waiting.splice(0).forEach((wake) => wake());
    });
    raw.closed = new Promise((resolve) =>
      raw.socket.once("close", (code, reason) => {
        raw.gone = true;
        raw.waiting.splice(0).forEach((wake) => wake());
        resolve({ code, reason: reason.toString(), bytes: reason.length });
      }),
    );
    await new Promise((resolve, reject) => raw.socket.once("open", resolve).once("error", reject));
    return raw;
  }

  /** A socket that is let in as whoever `payload` says. */
  static async initialised(weft, payload = { Authorization: weft.bearer }) {
    const raw = await Raw.open(weft);
    raw.send({ type: "connection_init", payload });
    assert.deepEqual(await raw.next(), { type: "connection_ack" });
    return raw;
  }

  /** A message; text as it is, bytes as a binary frame. */
  send(message) {
    this.socket.send(typeof message === "string" || message instanceof Uint8Array ? message : JSON.stringify(message));
  }

  subscribe(id, query, variables) {
    this.send({ id, type: "subscribe", payload: { query, variables } });
  }

  /** The next message. */
  async next() {
    while (!this.heard.length) {
      if (this.gone) {
        const { code, reason } = await this.closed;
        assert.fail(`closed with ${code} ${reason} in place of a message`);
      }
      await new Promise((resolve) => this.waiting.push(resolve));
    }
    return this.heard.shift();
  }

  /** How the server closes it. */
  async closes(code, reason) {
    const closed = await this.closed;
    assert.equal(closed.code, code, `closed with ${closed.code} ${closed.reason}`);
    assert.match(closed.reason, reason);
    assert(closed.bytes <= 123, "a reason of more than 123 bytes");
  }

  async close() {
    this.socket.close(1000);
    await this.closed;
  }
}
