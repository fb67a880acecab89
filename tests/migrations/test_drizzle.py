"""Drizzle's journal and snapshots: clashes, and custom SQL behind trunk's migrations."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.migrations.base import Impossible
from agentq.migrations.tools import tool

DRIZZLE = tool("drizzle")
META = "drizzle/meta/"
NOBODY = "00000000-0000-0000-0000-000000000000"


def dumped(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def files(*tags: str, tables: "dict[str, list[str]] | None" = None) -> dict[str, bytes]:
    """One migration after the other. `tables`: tag → what its snapshot holds, else what the one before does."""
    made: dict[str, bytes] = {}
    entries, previous, known = [], NOBODY, ["users"]
    for idx, tag in enumerate(tags):
        known = (tables or {}).get(tag, known)
        entries.append({"idx": idx, "version": "6", "when": 1000 + idx, "tag": tag, "breakpoints": True})
        made[f"drizzle/{tag}.sql"] = f"-- ü {tag}".encode()
        snapshot = {"version": "6", "dialect": "sqlite", "id": f"id-{tag}", "prevId": previous, "tables": known}
        made[f"{META}{tag.partition('_')[0]}_snapshot.json"] = dumped(snapshot)
        previous = f"id-{tag}"
    return {**made, f"{META}_journal.json": dumped({"version": "7", "dialect": "sqlite", "entries": entries})}


BASE = files("0000_a", "0001_b")
JOURNAL = f"{META}_journal.json"


def edited(made: dict[str, bytes], path: str, **changes: Any) -> dict[str, bytes]:
    """`made` with other values in a snapshot, or in the last entry of the journal."""
    value = json.loads(made[path])
    (value["entries"][-1] if path == JOURNAL else value).update(changes)
    return {**made, path: dumped(value)}


def without(path: str) -> dict[str, bytes]:
    return {name: data for name, data in BASE.items() if name != path}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (without(JOURNAL), "no meta/_journal.json"),
        (without("drizzle/0001_b.sql"), "0001_b.sql, which is not there"),
        (without(f"{META}0001_snapshot.json"), "0001_snapshot.json is not there"),
        ({**BASE, "drizzle/0001_c.sql": b""}, "does not name 0001_c.sql"),
        ({**BASE, "other/0001_c.sql": b""}, "other/0001_c.sql: no meta"),
        (
            {**BASE, f"{META}0002_snapshot.json": dumped({"id": "x", "prevId": "id-0001_b"})},
            "no migration for 0002_",
        ),
        ({**BASE, JOURNAL: b"<<<<<<< a"}, "cannot be read"),
        ({**BASE, JOURNAL: b"[" * 100_000}, "cannot be read"),
        ({**BASE, JOURNAL: b'{"entries": [], "entries": []}'}, "twice"),
        ({**BASE, JOURNAL: b'{"entries": [{"idx": true, "tag": "a", "when": 1}]}'}, "not a journal"),
        ({**BASE, f"{META}0001_snapshot.json": b"{}"}, "not a snapshot"),
        (edited(BASE, JOURNAL, idx=0), "has 0 twice"),
        (edited(BASE, JOURNAL, idx=-1), "out of order"),
        (edited(BASE, JOURNAL, when=1000), "passed over"),
        (edited(BASE, f"{META}0001_snapshot.json", prevId=NOBODY), "does not follow"),
        (files("0000_a", "0001_b", "0001_c"), "number 0001 twice"),
        (files("0000_a", "0001_b", "0001_b"), "0001_b twice"),
    ],
)
def test_a_clash_says_why(made: dict[str, bytes], words: str) -> None:
    assert DRIZZLE.clash(BASE) == ""
    assert words in DRIZZLE.clash(made)
    assert isinstance(DRIZZLE.rebase(made, {**BASE, "drizzle/0009_x.sql": b""}, BASE), Impossible)


@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_custom_sql_goes_behind_trunks(trunk: int, own: int, early: bool) -> None:
    tags = [f"{2 + place:04d}_t" for place in range(trunk)]
    landed = files("0000_a", "0001_b", *tags, tables={tags[0]: ["users", "more"]})
    ours = files("0000_a", "0001_b", *(f"{2 + place:04d}_own{place}" for place in range(own)))
    if not early:
        ours = edited(ours, JOURNAL, when=5000)
    moved = DRIZZLE.rebase(landed, ours, BASE)
    assert not isinstance(moved, Impossible) and DRIZZLE.clash({**landed, **moved}) == ""
    assert len(moved) == 2 * own + 1
    entries = json.loads(moved[JOURNAL])["entries"]
    assert entries[: 2 + trunk] == json.loads(landed[JOURNAL])["entries"]
    for place in range(own):
        tag = f"{2 + trunk + place:04d}_own{place}"
        assert entries[2 + trunk + place]["tag"] == tag
        assert moved[f"drizzle/{tag}.sql"] == ours[f"drizzle/{2 + place:04d}_own{place}.sql"]
        assert json.loads(moved[f"{META}{tag[:4]}_snapshot.json"])["tables"] == ["users", "more"]
    assert entries[-1]["when"] == (5000 if not early else 1001 + trunk + own)


def test_tags_that_are_times() -> None:
    base = files("20260101000000_a")
    trunk = files("20260101000000_a", "20260103000000_t")
    for own, moved in (("20260102000000_o", "20260103000001_o"), ("20260104000000_o", "20260104000000_o")):
        found = DRIZZLE.rebase(trunk, files("20260101000000_a", own), base)
        assert not isinstance(found, Impossible) and f"drizzle/{moved}.sql" in found


def test_a_change_of_the_schema_is_not_moved() -> None:
    ours = files("0000_a", "0001_b", "0002_own", tables={"0002_own": ["users", "mine"]})
    refused = DRIZZLE.rebase(files("0000_a", "0001_b", "0002_t"), ours, BASE)
    assert isinstance(refused, Impossible) and "changes the schema" in refused.why and refused.hint
    stays = DRIZZLE.rebase(BASE, ours, BASE)
    assert stays == {path: data for path, data in ours.items() if BASE.get(path) != data}


def test_two_that_begin() -> None:
    refused = DRIZZLE.rebase(files("0000_t"), files("0000_o"), {})
    assert isinstance(refused, Impossible)
    assert DRIZZLE.rebase({}, files("0000_o"), {}) == files("0000_o")


def test_what_was_generated() -> None:
    after = files("0000_a", "0001_b", "0002_c")
    new = {path: data for path, data in after.items() if BASE.get(path) != data}
    assert DRIZZLE.written(0, "", BASE, after) == new and len(new) == 3
    assert DRIZZLE.written(0, "No schema changes, nothing to migrate", BASE, BASE) == {}
    asked = DRIZZLE.written(0, "Reading config file", BASE, BASE)
    assert isinstance(asked, Impossible) and "question" in asked.why and asked.hint
    assert isinstance(DRIZZLE.written(1, "No schema changes", BASE, BASE), Impossible)
    redated = {**after, JOURNAL: after[JOURNAL].replace(b"1000", b"999")}
    refused = DRIZZLE.written(0, "", BASE, redated)
    assert isinstance(refused, Impossible) and "that have landed" in refused.why
    assert isinstance(DRIZZLE.written(0, "", BASE, edited(after, f"{META}0000_snapshot.json", x=1)), Impossible)


def test_what_stands_beside_the_migrations_is_the_projects() -> None:
    names = (
        "0000_a.sql",
        "meta/_journal.json",
        "meta/0000_snapshot.json",
        "schema.ts",
        "relations.ts",
        "README.md",
    )
    assert [DRIZZLE.owns(f"drizzle/{name}") for name in names] == [True, True, True, False, False, False]
