"""What Schemathesis is told of Weft's schema: how its scalars are written, and what counts as a fault."""

import os
import string

import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes

DIGITS = "0123456789"
TEXT = st.text(max_size=30)

schemathesis.graphql.scalar(
    "Cursor",
    st.one_of(TEXT, st.text(string.ascii_letters + DIGITS + "-_", max_size=60)).map(nodes.String),
)
schemathesis.graphql.scalar(
    "DateTime",
    st.one_of(st.datetimes().map(lambda at: at.isoformat() + "Z"), TEXT).map(nodes.String),
)
schemathesis.graphql.scalar(
    "Decimal",
    st.one_of(st.decimals().map(str), TEXT).map(nodes.String),
)
schemathesis.graphql.scalar(
    "Long",
    st.one_of(st.integers().map(nodes.Int), st.text(DIGITS + "-", max_size=25).map(nodes.String)),
)
JSON = st.recursive(
    st.one_of(
        st.integers().map(nodes.Int),
        st.floats(allow_nan=False, allow_infinity=False).map(nodes.Float),
        TEXT.map(nodes.String),
        st.booleans().map(nodes.Boolean),
    ),
    lambda inner: st.lists(inner, max_size=3).map(nodes.List),
    max_leaves=10,
)
schemathesis.graphql.scalar("JSON", JSON)


# Ids of what there is, more often than any text.
IDS = os.environ.get("IDS", "").split()
schemathesis.graphql.scalar("ID", st.one_of(*(st.just(id) for id in IDS), TEXT).map(nodes.String))


@schemathesis.check
def no_fault(ctx, response, case):
    """Nothing is the server's own fault: a status of 500 and above that says more than "not now", or an error INTERNAL."""
    status = response.status_code
    assert status < 500 or status in (503, 504), f"answered {status}: {response.text[:500]}"
    answer = response.json()
    assert isinstance(answer, dict) and ("data" in answer or answer.get("errors")), f"neither data nor errors: {response.text[:500]}"
    for error in answer.get("errors", ()):
        code = error.get("extensions", {}).get("code")
        assert code and code != "INTERNAL", f"a fault of the server's own: {error}"
