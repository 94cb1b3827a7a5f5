"""Weft driven by `gql`, as published: its HTTP transport, and both of its WebSocket transports.

Against WEFT_URL, with a model provider at PROVIDER_URL that says what it is told to.
"""

import asyncio
import json
import os
import sys
import time
import traceback
import urllib.request

from gql import Client, GraphQLRequest
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportConnectionFailed, TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport

WEFT = os.environ.get("WEFT_URL", "http://127.0.0.1:8080")
PROVIDER = os.environ["PROVIDER_URL"]
EMAIL = "outside@example.test"
PASSWORD = "shuttle, heddle and reed"
# How long a single test may take, in seconds.
PATIENCE = 30
# Letters of one, two and three bytes, and one outside the basic plane: positions in text count UTF-16 code units.
WORDS = ["The ", "über", " loom ", "织物 ", "🧵 ", "holds ", "the ", "warp", "."]
TEXT = "".join(WORDS)
UNIQUE = format(time.time_ns(), "x")
ENDS = {"RunCompleted", "RunFailed", "RunCancelled"}

FIELDS = """
  __typename cursor runId
  ... on MessageCreated { messageId message { id role status clientId } }
  ... on TextDelta { messageId part offset text }
  ... on MessageCompleted { messageId message { id role status text } }
  ... on StepFinished { step result { finishReason usage { inputTokens outputTokens } } }
  ... on RunCompleted { run { id status } }
  ... on RunFailed { error { kind message } }
"""
CONVERSATION = f"subscription ($id: ID!, $after: Cursor) {{ conversationEvents(conversationId: $id, after: $after) {{ {FIELDS} }} }}"
RUN = f"subscription ($id: ID!, $after: Cursor) {{ runEvents(runId: $id, after: $after) {{ {FIELDS} }} }}"


def request(document: str, variables: dict | None = None) -> GraphQLRequest:
    return GraphQLRequest(document, variable_values=variables)


class Person:
    """Somebody who uses Weft, with a credential or without."""

    def __init__(self, token: str | None = None):
        self.token = token

    def http(self) -> Client:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        # The client fetches the schema by introspection and holds every document against it.
        return Client(transport=AIOHTTPTransport(url=f"{WEFT}/graphql", headers=headers), fetch_schema_from_transport=True)

    def socket(self, transport=WebsocketsTransport) -> Client:
        payload = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        # gql offers an older protocol, too, and looks for the header that chooses between them by the letters that it wrote
        # itself: told nothing of protocols, it finds the one that the server speaks.
        return Client(transport=transport(url=f"{WEFT.replace('http', 'ws', 1)}/graphql", init_payload=payload))

    async def ask(self, document: str, variables: dict | None = None) -> dict:
        async with self.http() as session:
            return await session.execute(request(document, variables))

    async def done(self, field: str, values: dict, selection: str) -> dict:
        """Does a mutation of one field that may not be refused; answers its payload."""
        kind = field[0].upper() + field[1:]
        document = f"mutation ($input: {kind}Input!) {{ {field}(input: $input) {{ {selection} errors {{ code message }} }} }}"
        payload = (await self.ask(document, {"input": values}))[field]
        assert payload["errors"] == [], f"{field} was refused: {payload['errors']}"
        return payload

    async def agent_that_says(self, name: str, steps: list) -> str:
        """A model that says this, on an agent of its own."""
        await control("PUT", f"scripts/{name}", [{"steps": steps}])
        model = await self.done(
            "createModel",
            {
                "slug": name, "name": name, "kind": "CHAT", "provider": "ANTHROPIC", "modelName": name,
                "baseUrl": PROVIDER, "apiKey": "sk-outside",
            },
            "model { id hasApiKey }",
        )
        values = {"name": name, "instructions": "Answer.", "modelId": model["model"]["id"]}
        return (await self.done("createAgent", values, "agent { id }"))["agent"]["id"]

    async def send(self, values: dict) -> dict:
        return await self.done("sendMessage", values, "conversation { id } message { id } run { id } cursor")


async def control(method: str, path: str, body=None) -> None:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{PROVIDER}/control/{path}", data=data, method=method)
    await asyncio.to_thread(lambda: urllib.request.urlopen(asked).read())


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def joined(events: list) -> str:
    """The text that the deltas make, each put where it says that it stands."""
    text = ""
    for event in events:
        if event["__typename"] == "TextDelta":
            assert event["offset"] == units(text), f"the text is {units(text)} long, and then comes {event}"
            text += event["text"]
    return text


def assert_whole(events: list) -> list:
    kinds = [event["__typename"] for event in events]
    assert kinds[-1] == "RunCompleted", f"the run ended with {events[-1]}"
    assert len({event["cursor"] for event in events}) == len(events), "an event came twice"
    finished = next(event for event in events if event["__typename"] == "MessageCompleted")
    assert finished["message"]["text"] == TEXT and finished["message"]["status"] == "COMPLETE", finished
    assert joined(events) == TEXT, "the deltas make another text than the finished message"
    return kinds


async def follow(client: Client, conversation: str, after: str, events: list) -> None:
    async with client as session:
        async for data in session.subscribe(request(CONVERSATION, {"id": conversation, "after": after})):
            events.append(data["conversationEvents"])
            if events[-1]["__typename"] in ENDS:
                return


SAID = [{"text": word} for word in WORDS]
me = Person()
first: dict = {}


async def is_set_up_once_or_signs_in():
    service = (await me.ask("{ service { needsSetup limits { maxPageSize } } viewer { user { id } } }"))
    assert service["viewer"] is None and service["service"]["limits"]["maxPageSize"] == 100
    if service["service"]["needsSetup"]:
        values = {"email": EMAIL, "password": PASSWORD, "name": "Outside", "tenantName": "Outside"}
        payload = await me.done("setUp", values, "accessToken viewer { role }")
    else:
        payload = await me.done("signIn", {"email": EMAIL, "password": PASSWORD}, "accessToken viewer { role }")
    assert payload["viewer"]["role"] == "OWNER"
    me.token = payload["accessToken"]


async def streams_an_answer_from_the_cursor_of_send_message_on():
    agent = await me.agent_that_says(f"python-plain-{UNIQUE}", SAID)
    for transport in (WebsocketsTransport, AIOHTTPWebsocketsTransport):
        sent = await me.send({"agentId": agent, "text": "What does a loom hold?", "clientId": "mine"})
        events: list = []
        await follow(me.socket(transport), sent["conversation"]["id"], sent["cursor"], events)
        kinds = assert_whole(events)
        assert {"MessageCreated", "RunQueued", "RunStarted", "StepStarted", "StepFinished"} <= set(kinds), kinds
        assert events[0]["message"] == {"id": sent["message"]["id"], "role": "USER", "status": "COMPLETE", "clientId": "mine"}
        first.update(sent)


async def replays_a_run_from_its_beginning_and_ends_there():
    events = []
    async with me.socket() as session:
        async for data in session.subscribe(request(RUN, {"id": first["run"]["id"]})):
            events.append(data["runEvents"])
    assert_whole(events)


async def goes_on_from_the_last_cursor_after_the_socket_was_cut():
    name = f"python-cut-{UNIQUE}"
    agent = await me.agent_that_says(name, SAID[:4] + [{"wait_for": name}] + SAID[4:])
    sent = await me.send({"agentId": agent, "text": "Begin, and wait for me."})
    events: list = []
    cut = me.socket()
    try:
        async with cut as session:
            async for data in session.subscribe(request(CONVERSATION, {"id": sent["conversation"]["id"], "after": sent["cursor"]})):
                events.append(data["conversationEvents"])
                if joined(events) == "".join(WORDS[:4]):
                    # Everything before the gate has come: the network goes.
                    cut.transport.adapter.websocket.transport.abort()
        raise AssertionError("a cut socket ended the subscription without an error")
    except TransportConnectionFailed:
        pass
    await control("POST", f"gates/{name}")
    await follow(me.socket(), sent["conversation"]["id"], events[-1]["cursor"], events)
    assert_whole(events)
    run = (await me.ask("query ($id: ID!) { run(id: $id) { status output { text } } }", {"id": sent["run"]["id"]}))["run"]
    assert run == {"status": "COMPLETED", "output": {"text": TEXT}}, run


async def serves_several_subscriptions_on_one_socket():
    agent = await me.agent_that_says(f"python-side-{UNIQUE}", SAID)
    sent = [await me.send({"agentId": agent, "text": f"Side by side {at}"}) for at in range(5)]

    async def one(session, of):
        events = []
        async for data in session.subscribe(request(RUN, {"id": of["run"]["id"]})):
            events.append(data["runEvents"])
        return events

    async with me.socket() as session:
        for events in await asyncio.gather(*(one(session, of) for of in sent)):
            assert_whole(events)


async def refuses_what_is_wrong():
    try:
        async with Person("nonsense").socket() as session:
            await session.execute(request("{ service { name } }"))
        raise AssertionError("it was let in")
    except TransportError:
        pass
    try:
        async with me.socket() as session:
            async for data in session.subscribe(request(CONVERSATION, {"id": first["conversation"]["id"], "after": "nonsense"})):
                raise AssertionError(f"it was answered: {data}")
        raise AssertionError("a bad cursor was taken")
    except TransportQueryError as refused:
        assert refused.errors[0]["extensions"]["code"] == "INVALID_INPUT", refused.errors
    payload = (await me.ask(
        "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } errors { __typename code path } } }",
        {"input": {"agentId": first["run"]["id"], "text": "Nobody."}},
    ))["sendMessage"]
    assert payload["run"] is None and payload["errors"][0]["code"] == "NOT_FOUND", payload


async def main() -> int:
    passed = failed = 0
    tests = [
        is_set_up_once_or_signs_in,
        streams_an_answer_from_the_cursor_of_send_message_on,
        replays_a_run_from_its_beginning_and_ends_there,
        goes_on_from_the_last_cursor_after_the_socket_was_cut,
        serves_several_subscriptions_on_one_socket,
        refuses_what_is_wrong,
    ]
    for test in tests:
        name = test.__name__.replace("_", " ")
        try:
            await asyncio.wait_for(test(), PATIENCE)
            passed += 1
            print(f"ok      {name}", flush=True)
        except Exception:  # noqa: BLE001 (each test is told of, whatever it met)
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
    print(f"gql: {passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
