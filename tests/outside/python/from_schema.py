"""Weft driven by Schemathesis, as published: whatever its schema allows is asked for, without a credential and with one.

Against WEFT_URL, with a model provider at PROVIDER_URL; SECONDS (60) is how long it may take. The server has answered nothing that is its
own fault (`schemathesis_hooks.py` says what that is); that it has not panicked, its log says to whoever started it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request

WEFT = os.environ["WEFT_URL"]
PROVIDER = os.environ["PROVIDER_URL"]
SECONDS = int(os.environ.get("SECONDS_OF_SCHEMATHESIS", "60"))
HERE = os.path.dirname(os.path.abspath(__file__))


def ask(document: str, variables: dict, token: str | None = None) -> dict:
    headers = {"content-type": "application/json", "accept": "application/graphql-response+json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    body = json.dumps({"query": document, "variables": variables}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{WEFT}/graphql", body, headers)) as response:
        answer = json.load(response)
    assert "errors" not in answer, answer
    return answer["data"]


def done(field: str, values: dict, selection: str, token: str | None = None) -> dict:
    kind = field[0].upper() + field[1:]
    document = f"mutation ($input: {kind}Input!) {{ {field}(input: $input) {{ {selection} errors {{ code message }} }} }}"
    payload = ask(document, {"input": values}, token)[field]
    assert payload["errors"] == [], payload
    return payload


def furnished() -> tuple[str, list[str]]:
    """A token of the owner, and ids of what there is, so that not every id is of nothing."""
    who = {"email": "outside@example.test", "password": "shuttle, heddle and reed"}
    owner = done("setUp", who | {"name": "Owner", "tenantName": "Outside"}, "accessToken viewer { user { id } tenant { id } }")
    token = owner["accessToken"]
    settings = {"slug": "tokens-3-0", "name": "Scripted", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "tokens-3-0"}
    model = done("createModel", settings | {"baseUrl": f"{PROVIDER}/v1", "apiKey": "sk-scripted"}, "model { id }", token)["model"]["id"]
    agent = done("createAgent", {"name": "Weaver", "instructions": "Answer.", "modelId": model}, "agent { id }", token)["agent"]["id"]
    ids = [model, agent, owner["viewer"]["user"]["id"], owner["viewer"]["tenant"]["id"]]
    for _ in range(3):
        sent = done("sendMessage", {"agentId": agent, "text": "Go"}, "message { id conversation { id } } run { id }", token)
        ids += [sent["message"]["id"], sent["message"]["conversation"]["id"], sent["run"]["id"]]
    return token, ids


def run(name: str, schema: str, seconds: int, *more: str, ids: list[str]) -> bool:
    command = [
        os.path.join(os.path.dirname(sys.executable), "st"), "run", schema, "--url", f"{WEFT}/graphql",
        "--checks", "no_fault", "--phases", "fuzzing", "--max-time", str(seconds), "--workers", "2",
        "--continue-on-failure", "--warnings", "off", "--no-color", *more,
    ]  # fmt: skip
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "PYTHONPATH": HERE,
        "PYTHONDONTWRITEBYTECODE": "1",
        "IDS": " ".join(ids),
    }
    with tempfile.TemporaryDirectory() as folder:
        # it keeps what it has found in the working folder
        outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10 * seconds + 60)
    cases = re.search(r"(\d+) generated", outcome.stdout)
    seed = re.search(r"Seed: (\d+)", outcome.stdout)
    if outcome.returncode == 0 and cases and seed and int(cases[1]) >= seconds:
        print(f"{name}: {cases[1]} cases of seed {seed[1]}")
        return True
    print(f"{name}: it ended with {outcome.returncode}", outcome.stdout, outcome.stderr, sep="\n")
    return False


def main() -> None:
    token, ids = furnished()
    with tempfile.NamedTemporaryFile("w", suffix=".graphql") as schema:
        with urllib.request.urlopen(f"{WEFT}/schema.graphql") as response:
            schema.write(response.read().decode())
        schema.flush()
        stranger = run("without a credential", schema.name, SECONDS // 3, ids=ids)
        # what would end the session, suspend its tenant or change who it is of is left to the stranger
        ending = ["signOut", "changePassword", "updateTenant", "setUserActive", "revokeUserSessions", "revokeSession", "removeMembership"]
        own = [word for name in ending for word in ("--exclude-name", f"Mutation.{name}")]
        own += ["--header", f"Authorization: Bearer {token}"]
        owner = run("with one", schema.name, SECONDS - SECONDS // 3, *own, ids=ids)
    # and it goes on as before
    assert ask("{ viewer { role } }", {}, token)["viewer"]["role"] == "OWNER"
    sys.exit(0 if stranger and owner else 1)


main()
