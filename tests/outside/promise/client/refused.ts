// What must not compile: that the types hold more than `any` would. The compiler fails where one of these lines is in order.
import { CreateAgentDocument, FollowDocument, PagesDocument, ServerDocument, type FollowSubscription } from "./generated.js";
import type { Weft } from "./weft.js";

/** Never called. */
export async function refused(weft: Weft, event: FollowSubscription["conversationEvents"]): Promise<unknown> {
  return [
    // @ts-expect-error: an agent has instructions.
    await weft.ask(CreateAgentDocument, { input: { name: "Weaver" } }),
    // @ts-expect-error: there is no such field.
    await weft.ask(CreateAgentDocument, { input: { name: "Weaver", instructions: "Answer.", colour: "blue" } }),
    // @ts-expect-error: nobody is of this visibility.
    await weft.ask(CreateAgentDocument, { input: { name: "Weaver", instructions: "Answer.", visibility: 3 } }),
    // @ts-expect-error: it is followed by its id.
    weft.follow(FollowDocument, {}),
    // @ts-expect-error: a number of entries.
    await weft.ask(PagesDocument, { first: "2" }),
    // @ts-expect-error: it was not asked for.
    (await weft.ask(ServerDocument, {})).service.version,
    // @ts-expect-error: only a piece of text has one.
    event.offset,
    // @ts-expect-error: an agent may have no model.
    (await weft.ask(CreateAgentDocument, { input: { name: "Weaver", instructions: "Answer." } })).createAgent.agent?.model.provider,
  ];
}
