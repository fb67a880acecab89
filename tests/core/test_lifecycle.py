"""The life of a spec: the table of mission row T6, and nothing beside it."""

from itertools import product

import pytest

from agentq.core import lifecycle
from agentq.core.lifecycle import STAGES, STATUSES, TABLE, after
from agentq.errors import Refused


def test_the_whole_way():
    status, seen = "ready", ["ready"]
    for stage, events in (
        ("test", ("begin", "finish")),
        ("implement", ("begin", "finish")),
        ("verify", ("begin",)),
    ):
        for event in events:
            status = after(status, event, stage)
            seen.append(status)
    assert seen == ["ready", "testing", "tests-written", "implementing", "implemented", "verifying"]
    assert tuple(seen[1:]) == STATUSES


EVERYTHING = list(product(["ready", *STATUSES, "complete"], ["begin", "finish"], STAGES))


@pytest.mark.parametrize(("status", "event", "stage"), [row for row in EVERYTHING if row not in TABLE])
def test_what_the_table_does_not_hold_is_refused(status, event, stage):
    with pytest.raises(Refused) as caught:
        after(status, event, stage)
    assert caught.value.message == f"a spec that is {status} cannot {event} its {stage} stage"
    assert caught.value.hint == (
        "it is complete" if status == "complete" else f"its next stage is {lifecycle.NEXT_STAGE[status]}"
    )


def test_an_interrupted_stage_begins_again():
    for stage, active in lifecycle.ACTIVE.items():
        assert after(active, "begin", stage) == active
        assert lifecycle.NEXT_STAGE[active] == stage


def test_verify_is_never_finished_without_a_landing():
    assert [row for row in TABLE if row[1:] == ("finish", "verify")] == []
    assert "complete" not in TABLE.values()
