// What stands in the editor at first: the way from nothing to an answer that is watched, one tab a step.

const ME = `# Run this: Ctrl-Enter. Complete: Ctrl-Space.
# The other tabs go on from here: make an agent,
# ask it, watch it answer.
query Me {
  viewer {
    user { name email }
    tenant { name slug }
    role
  }
  service { name version }
}
`;

const NEW_AGENT = `# An agent on the default model.
# Put its id into the variables of the next tab.
mutation NewAgent($input: CreateAgentInput!) {
  createAgent(input: $input) {
    agent { id name model { name } }
    errors { message path }
  }
}
`;

const ASK = `# Says something to the agent, which answers
# by itself. Watch that in the next tab, with
# the conversation's id and the cursor from here.
mutation Ask($input: SendMessageInput!) {
  sendMessage(input: $input) {
    conversation { id }
    run { id status }
    cursor
    errors { message path }
  }
}
`;

const WATCH = `# Everything that happens in a conversation.
# Reload the page in the middle: it goes on
# after the last cursor that you have seen.
subscription Watch($conversation: ID!, $after: Cursor) {
  conversationEvents(
    conversationId: $conversation
    after: $after
  ) {
    __typename
    cursor
    ... on MessageCreated { message { role text } }
    ... on TextDelta { messageId part offset text }
    ... on StepRestarted { messageId fromPart reason }
    ... on MessageCompleted { message { role status text } }
    ... on RunCompleted { run { status } }
    ... on RunFailed { error { kind message } }
  }
}
`;

const json = (value: unknown) => JSON.stringify(value, null, 2);

/** The editor's first tabs. */
export const EXAMPLES = [
  { query: ME },
  { query: NEW_AGENT, variables: json({ input: { name: "Weaver", instructions: "Answer in one sentence." } }) },
  { query: ASK, variables: json({ input: { agentId: "", text: "A loom holds the warp. What does a loom hold?" } }) },
  { query: WATCH, variables: json({ conversation: "", after: null }) },
].map((tab) => ({ headers: null, variables: "{}", ...tab }));

/** What stands in a new tab. */
export const EMPTY = "";
