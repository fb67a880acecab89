"""Settings: precedence, places in errors, bounds, and the page generated from the table."""

import math
import subprocess
import sys
import tomllib
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq import config
from agentq.config import SETTINGS, Config, Origin, host_name, load, policy, render_docs
from agentq.core import tomltext
from agentq.errors import ConfigError

TOP = Path(__file__).parents[1]
FILE = "agents/config.toml"


def project(root: Path, policy_text: str = "", machine: str = "") -> Path:
    (root / "agents").mkdir(exist_ok=True)
    (root / FILE).write_text(policy_text)
    (root / ".machine").write_text(machine)
    return root


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        policy(text, FILE)
    return caught.value


def test_without_files_everything_is_the_default(tmp_path: Path) -> None:
    loaded = load(tmp_path, {})
    assert (loaded.trunk, loaded.agent, loaded.commands) == (Config().trunk, Config().agent, Config().commands)
    assert loaded.machine.name
    assert set(loaded.origins) == set(SETTINGS)
    assert {origin.kind for origin in loaded.origins.values()} == {"default"}


def test_defaults_pass_their_own_checks() -> None:
    for setting in SETTINGS.values():
        assert setting.check(setting.default) == setting.default, setting.name


def test_each_place_overrules_the_weaker_ones(tmp_path: Path) -> None:
    root = project(tmp_path, "[agent]\nattempts = 3\n", "instances = 5\n")
    env = {"AGENTQ_AGENT_ATTEMPTS": "4", "AGENTQ_MACHINE_INSTANCES": "6"}
    seen = [
        load(root, {}),
        load(root, env),
        load(root, env, {"agent.attempts": 5, "machine.instances": "7", "trunk.branch": None}),
    ]
    assert [(c.agent.attempts, c.machine.instances) for c in seen] == [(3, 5), (4, 6), (5, 7)]
    assert [c.origins["agent.attempts"] for c in seen] == [
        Origin("policy", "agents/config.toml:2"),
        Origin("env", "AGENTQ_AGENT_ATTEMPTS"),
        Origin("flag", "agent.attempts"),
    ]
    assert seen[0].origins["machine.instances"] == Origin("machine", ".machine:1")
    assert seen[2].origins["trunk.branch"] == Origin("default")


def test_policy_text_replaces_the_file(tmp_path: Path) -> None:
    root = project(tmp_path, "[commands]\nverify = ['true']\n")
    assert load(root, {}, policy_text="[commands]\nverify = ['make check']").commands.verify == ("make check",)
    assert load(root, {}, policy_text="").commands.verify == ()


def test_every_setting_can_be_set_in_its_file_the_environment_and_by_flag(tmp_path: Path) -> None:
    samples: dict[str, Any] = {
        "text": "abc",
        "whole number": 2,
        "number": 1.5,
        "list of texts": ["abc", "d"],
        "list of whole numbers": [7, 8],
        "table of minutes": {"scan": 1.5, "implementation": 2, "documentation": 3},
        "table of counts": {"scan": 1, "implementation": 2, "documentation": 3},
        "text or list of texts": ["a", "b c"],
    }
    for name, setting in SETTINGS.items():
        value = samples[setting.kind] if not setting.about.choices else setting.about.choices[-1]
        value = "/abc" if name == "machine.workspaces" else value
        value = ["/abc"] if name in ("sandbox.writable", "sandbox.readable") else value
        value = 0.5 if name.startswith("pace.") and name.endswith("_at") else value
        written = tomltext.dump(value)
        text = f"[{setting.section}]\n{setting.key} = {written}\n"
        flat = f"\n{setting.key} = {written}\n"
        here = project(tmp_path, *(("", flat) if setting.section == "machine" else (text, "")))
        plain = value if setting.kind == "text" else written
        found = [
            (c.origins[name], getattr(getattr(c, setting.section), setting.key))
            for c in (
                load(here, {}),
                load(tmp_path / "none", {setting.env: plain}),
                load(tmp_path / "none", {}, {name: value}),
            )
        ]
        place = ".machine:2" if setting.section == "machine" else f"{FILE}:2"
        kind = "machine" if setting.section == "machine" else "policy"
        assert [origin for origin, _ in found] == [
            Origin(kind, place),
            Origin("env", setting.env),
            Origin("flag", name),
        ]
        assert found[0][1] == found[1][1] == found[2][1] == setting.check(value)


def test_environment_names_are_unique() -> None:
    assert len({setting.env for setting in SETTINGS.values()}) == len(SETTINGS)
    assert SETTINGS["commands.test_not_run"].env == "AGENTQ_COMMANDS_TEST_NOT_RUN"


@pytest.mark.parametrize(
    ("text", "line", "key", "why", "hint"),
    [
        ('[agent]\n\n# x\nmodle = "a"', 4, "agent.modle", "unknown key", "did you mean 'model'?"),
        ("[agnt]", 1, "agnt", "unknown section", "did you mean 'agent'?"),
        ("branch = 'x'", 1, "branch", "unknown section", "'branch' belongs in [trunk]"),
        ("[agent]\nverify = ['x']", 2, "agent.verify", "unknown key", "'verify' belongs in [commands]"),
        ("agent = 3", 1, "agent", "a section", "[agent]"),
        ("\n[[agent]]\nmodel = 'a'", 2, "agent", "a section", "[agent]"),
        ("[machine]\ninstances = 2", 1, "machine", "one host", ".machine"),
        ("[agent]\nattempts = true", 2, "agent.attempts", "found true or false", ""),
        ("[agent]\nattempts = 2.0", 2, "agent.attempts", "found a number", ""),
        ("[agent]\nattempts = '2'", 2, "agent.attempts", "found a text", "without quotes"),
        ("[agent]\nattempts = 0", 2, "agent.attempts", "not between 1 and 20", ""),
        ("[agent]\nmodel = 2026-01-31", 2, "agent.model", "found a date or time", ""),
        ("[agent]\nsilence_minutes = nan", 2, "agent.silence_minutes", "nan is not between", ""),
        ("[agent]\ntimeout_minutes = inf", 2, "agent.timeout_minutes", "inf is not between", ""),
        (f"[agent]\nattempts = {10**400}", 2, "agent.attempts", "a number this large", ""),
        ("[agent]\ntimeouts = {scan = 0}", 2, "agent.timeouts", "0 is not between", ""),
        ("[agent.timeouts]\nscan = 1\n'A B' = 1", 1, "agent.timeouts", "'A B' is not a type of spec", ""),
        ("[agent]\nenv = ['A', 'B C']", 2, "agent.env", "'B C'", ""),
        ("[agent]\ncommit = 'atuo'", 2, "agent.commit", "not one of: agent, auto", "did you mean 'auto'?"),
        ("[agent]\ncommand = ['a', 3]", 2, "agent.command", "expected a text", ""),
        ("[agent]\nmodel = 'a\\u0000'".replace("'", '"'), 2, "agent.model", "control characters", ""),
        ('[commands]\ntest = "ls \\u202e"', 2, "commands.test", "control characters", ""),
        ("[commands]\nverify = 'make'", 2, "commands.verify", "found a text", 'write a list: ["make"]'),
        ("[commands]\nverify = [' ']", 2, "commands.verify", "must not be empty", ""),
        ("[commands]\nkeep = ['../x']", 2, "commands.keep", "inside the repository", ""),
        ("[commands]\ntest_not_run = [5, 0]", 2, "commands.test_not_run", "0 is not between 1 and 255", ""),
        ("[overlap]\nadditive = ['/etc/x']", 2, "overlap.additive", "relative to the repository", ""),
        ("[database]\nprovider = 'sqllite'", 2, "database.provider", "none, sqlite", "did you mean 'sqlite'?"),
        ("[database]\nenv = ''", 2, "database.env", "must not be empty", ""),
        ("[trunk]\nremote = '--upload-pack=x'", 2, "trunk.remote", "not the name of a git remote", ""),
        ("[trunk]\nbranch = 'a..b'", 2, "trunk.branch", "not a branch name", ""),
        ("trunk.branch = 'a b'", 1, "trunk.branch", "not a branch name", ""),
        ("# x\ntrunk = {branch = '-b'}", 2, "trunk.branch", "not a branch name", ""),
        (
            '[commands]\nverify = ["""\n[x]\ntest = 1""",\n"b"]\nsetup = 3',
            6,
            "commands.setup",
            "found a whole",
            "",
        ),
        ('[commands]\nverify = ["""a"""", "]", "b"]\nsetup = 3', 3, "commands.setup", "found a whole", ""),
        ("[agent]\r\nmodel = ''\r\nattempts = 99\r\n", 3, "agent.attempts", "99 is not between", ""),
        ("[agent]\nx", 2, "", "not TOML: Expected '='", ""),
        ("[agent]\nmodel = abc", 2, "", "not TOML", "in quotes"),
        ("[agent]\nmodel = 'a'\n[agent]", 3, "", "not TOML", ""),
        ("[agent]\nmodel = [1,\n2", 3, "", "not TOML", ""),
        ("a = " + "[" * 5000, 0, "", "not TOML", ""),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(text: str, line: int, key: str, why: str, hint: str) -> None:
    error = refused(text)
    assert (error.file, error.line, error.key) == (FILE, line, key)
    assert why in error.message
    assert hint in error.hint
    assert error.message.startswith(f"{FILE}:{line}: " if line else f"{FILE}: ")


@pytest.mark.parametrize(
    ("text", "line", "why", "hint"),
    [
        ("# x\ninstnces = 1", 2, "unknown key", "did you mean 'instances'?"),
        ("instances = 100_000", 1, "100000 is not between 1 and 256", ""),
        ("ram_gb = -1", 1, "-1 is not between 0 and 65536", ""),
        ("agent_gb = 0", 1, "0 is not between 0.1 and 4096", ""),
        ("name = 'a\\nb'".replace("'", '"'), 1, "letters, digits", ""),
        ("workspaces = 'work'", 1, "absolute path", ""),
        ("[agent]\nmodel = 'x'", 1, "policy", FILE),
        ("[machine]\nname = 'x'", 1, "no sections", "without [machine]"),
    ],
)
def test_machine_file_is_flat_and_bounded(tmp_path: Path, text: str, line: int, why: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(project(tmp_path, "", text), {})
    assert (caught.value.file, caught.value.line) == (".machine", line)
    assert why in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("variable", "value", "why", "hint"),
    [
        ("AGENTQ_AGENT_ATEMPTS", "3", "no such setting", "did you mean 'AGENTQ_AGENT_ATTEMPTS'?"),
        ("AGENTQ_AGENT_ATTEMPTS", "three", "found a text", ""),
        ("AGENTQ_AGENT_ATTEMPTS", "1e1", "found a number", ""),
        ("AGENTQ_SCHEDULE_LEASE_HOURS", "nan", "nan is not between", ""),
        ("AGENTQ_COMMANDS_VERIFY", '["a', "not a list", 'written ["a", "b"]'),
        ("AGENTQ_AGENT_TIMEOUTS", "5", "expected a table", ""),
    ],
)
def test_bad_environment_names_the_variable(
    tmp_path: Path, variable: str, value: str, why: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {variable: value})
    assert caught.value.message.startswith(f"environment: {variable}: ")
    assert why in caught.value.message
    assert hint in caught.value.hint


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    env = {
        "AGENTQ_SPEC": "x",
        "AGENTQ_DEBUG": "1",
        "HOME": "/",
        "AGENTQ_AGENT_ATTEMPTS": "",
        "AGENTQ_MACHINE": "a",
    }
    assert load(tmp_path, env).agent.attempts == 2


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("agent.command", "claude -p", "claude -p"),
        ("agent.command", '["claude", "-p"]', ("claude", "-p")),
        ("agent.command", "[ -f x ] && y", "[ -f x ] && y"),
        ("commands.verify", "make a, b", ("make a, b",)),
        ("commands.test_not_run", "5", (5,)),
        ("agent.timeout_minutes", "0.05", 0.05),
        ("agent.timeouts", "{ scan = 3 }", {"scan": 3.0, "implementation": 45.0, "documentation": 20.0}),
    ],
)
def test_texts_from_outside(tmp_path: Path, name: str, text: str, value: object) -> None:
    section, key = name.split(".")
    for loaded in (load(tmp_path, {SETTINGS[name].env: text}), load(tmp_path, {}, {name: text})):
        assert getattr(getattr(loaded, section), key) == value


def test_unknown_flag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"command line: agent\.modle: no such setting") as caught:
        load(tmp_path, {}, {"agent.modle": "x"})
    assert caught.value.hint == "did you mean 'agent.model'?"


def test_times_per_type_merge_until_the_general_time_is_set(tmp_path: Path) -> None:
    def seconds(loaded: Config) -> list[float]:
        return [loaded.agent.timeout_for(kind) for kind in ("scan", "implementation", "other")]

    root = project(tmp_path, "[agent]\ntimeouts = { scan = 1 }\n")
    assert seconds(Config()) == [900, 2700, 2700]
    assert seconds(load(root, {})) == [60, 2700, 2700]
    assert seconds(load(root, {"AGENTQ_AGENT_TIMEOUT_MINUTES": "2"})) == [120, 120, 120]
    both = policy("[agent]\ntimeouts = { scan = 1 }\ntimeout_minutes = 2\n", FILE)
    assert seconds(both) == [60, 120, 120]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    root = project(tmp_path)
    (root / FILE).write_bytes(b"[agent]\n# \xff\n")
    with pytest.raises(ConfigError, match=r"config\.toml:2: not UTF-8"):
        load(root, {})
    (root / FILE).write_bytes(b"\xef\xbb\xbf[agent]\nattempts = 3\n")
    assert load(root, {}).agent.attempts == 3
    (root / FILE).write_bytes(b"#" * (config.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="not a regular file"):
        load(root, {})
    (root / FILE).unlink()
    (root / FILE).mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        load(root, {})


def test_a_config_does_not_change() -> None:
    loaded = policy("[agent]\ntimeouts = { scan = 1 }", FILE)
    with pytest.raises(FrozenInstanceError):
        loaded.agent.attempts = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        loaded.agent.timeouts["scan"] = 2  # type: ignore[index]
    with pytest.raises(TypeError):
        loaded.origins["x"] = Origin("flag")  # type: ignore[index]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://me:se@cr/et@host/db", '"postgres://me:***@host/db"'),
        ("postgres://host/db?password=secret&x=1", '"postgres://host/db?password=***&x=1"'),
        ("file.db", '"file.db"'),
    ],
)
def test_rows_hide_passwords(tmp_path: Path, url: str, shown: str) -> None:
    rows = load(tmp_path, {"AGENTQ_DATABASE_URL": url}).rows()
    assert [row[0] for row in rows] == list(SETTINGS)
    assert ("database.url", shown, Origin("env", "AGENTQ_DATABASE_URL")) in rows


@given(st.text())
def test_any_host_name_becomes_a_machine_name(raw: str) -> None:
    name = host_name(raw)
    assert SETTINGS["machine.name"].check(name) == name != ""


@pytest.mark.parametrize(("raw", "name"), [("Ann's Mac.local", "Ann-s-Mac.local"), ("--", "machine")])
def test_host_names(raw: str, name: str) -> None:
    assert host_name(raw) == name


_SAFE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
_VALUES = st.recursive(
    st.one_of(_SAFE, st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_SAFE, inner, max_size=3),
)


@given(_VALUES)
def test_dump_is_read_back(value: object) -> None:
    assert tomllib.loads(f"x = {tomltext.dump(value)}")["x"] == value


@given(st.lists(st.tuples(_VALUES, st.integers(0, 2)), max_size=6), st.booleans())
def test_lines_are_those_of_the_keys(values: list[tuple[object, int]], header: bool) -> None:
    text, expected = ("# '''\n[a]\n", {("a",): 2}) if header else ("", {})
    for index, (value, gap) in enumerate(values):
        text += "\n" * gap + " # x [ \" '\n" * gap
        path = ("a", f"k{index}") if header else (f"k{index}",)
        expected[path] = text.count("\n") + 1
        text += f'k{index} = [ # ]\n  {tomltext.dump(value)},\n"""\nk9 = 1 ]\\""""" ]\n'
    _, lines = tomltext.parse(text, "x")
    assert {path: line for path, line in lines.items() if path in expected} == expected


@given(st.text(max_size=60) | st.text("[]{}=\"'#.,\n a1\\", max_size=60))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    try:
        assert policy(text, FILE).machine.instances == 1
    except ConfigError as error:
        assert error.message.startswith(FILE)
        assert error.line <= text.count("\n") + 1


@given(st.sampled_from(sorted(SETTINGS)), _VALUES | st.none() | st.booleans() | st.just(math.nan))
def test_what_passes_a_check_passes_again(name: str, value: object) -> None:
    try:
        once = SETTINGS[name].check(value)
    except ValueError:
        return
    assert SETTINGS[name].check(once) == once


def test_documentation_is_up_to_date() -> None:
    page = (TOP / "docs/config.md").read_text()
    assert page == render_docs(), "write docs/config.md anew with agentq.config.render_docs()"
    assert all(f"| `{setting.key}` |" in page for setting in SETTINGS.values())


def test_import_is_cheap() -> None:
    code = "import sys, agentq.config; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"pydantic", "networkx", "git", "rich", "typer", "psutil", "anthropic"}.isdisjoint(loaded)
