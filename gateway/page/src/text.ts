// The texts that the pieces of a stream make, by message and part.

/** A part of a message, as far as it has come. */
export interface Part {
  message: string;
  part: number;
  text: string;
  /** What stood before the first piece that was seen. */
  from: number;
}

const text = (value: unknown, otherwise = "") => (typeof value === "string" ? value : otherwise);
const number = (value: unknown, otherwise: number) => (typeof value === "number" ? value : otherwise);

/** The parts after an event: the same list where it says nothing to them. What the document did not ask for is taken as the start. */
export function heard(parts: readonly Part[], kind: string | null, event: Record<string, unknown>): readonly Part[] {
  const message = text(event.messageId);
  if (kind === "StepRestarted") {
    const fromPart = number(event.fromPart, 0);
    return parts.filter((one) => one.message !== message || one.part < fromPart);
  }
  if (kind !== "TextDelta" || typeof event.text !== "string") return parts;
  const part = number(event.part, 0);
  const before = parts.find((one) => one.message === message && one.part === part);
  if (!before) return [...parts, { message, part, text: event.text, from: number(event.offset, 0) }];
  const length = before.from + before.text.length;
  // Where the part is longer already, the piece is known.
  if (number(event.offset, length) < length) return parts;
  const after = { ...before, text: before.text + event.text };
  return parts.map((one) => (one === before ? after : one));
}
