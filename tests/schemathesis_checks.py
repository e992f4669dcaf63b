"""What schemathesis holds every answer of a server to, beyond what its description says."""

from collections.abc import Iterator

import schemathesis

FOREIGN = "another-organisations"
"""Stands in all that another organisation has, and in no request."""
QUANTA_PER_KW = 1_000_000


@schemathesis.check
def nothing_of_others(context, response, case) -> None:
    """Hold that no answer has anything of another organisation."""
    assert FOREIGN not in response.text, "an answer has something of another organisation"


@schemathesis.check
def no_group_gives_more_than_it_may(context, response, case) -> None:
    """Hold that what connectors may draw fits each group that an answer tells of."""
    if "json" not in str(response.headers.get("content-type")):
        return
    for told in objects(response.json()):
        if "headroom" in told:
            assert told["used"] <= told["usable"], f"more than is usable: {told}"
        if "connectors" in told and "root" in told:
            usable = {group["_id"]: group["usable"] for group in told["groups"]}
            powers = (round(plug["power"] * QUANTA_PER_KW) for plug in told["connectors"])
            assert sum(powers) <= round(usable[told["_id"]] * QUANTA_PER_KW), f"too much: {told}"


def objects(value: object) -> Iterator[dict]:
    """Yield every object in a document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from objects(item)
