"""The agent as a process: keys, signals, death, and going on with a conversation."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from agent_harness import KEY, MODEL, World, world
from support.messages_stub import MessagesStub, always, hang, in_order, say, use

from agentq.agent import job as jobs
from agentq.agent.shell import without_keys
from agentq.agent.talk import INTERRUPTED
from agentq.agent.trajectory import Trajectory, load, records
from agentq.errors import UserError


@pytest.fixture
def here(tmp_path: Path) -> World:
    return world(tmp_path)


def until(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# The parent of the command is its guard, whose parent is the agent.
SPY = (
    "env; echo =====; cat /proc/$(awk '{print $4}' /proc/$PPID/stat)/environ | tr '\\0' '\\n' | grep -a ^AGENTQ_AGENT;"
    "cat ../job.json ../logs/*; true"
)


def test_the_key_reaches_no_tool_and_the_workspace_no_import(here: World) -> None:
    for name in ("json.py", "agentq/__init__.py", "anthropic.py", "sitecustomize.py"):
        file = here.workspace / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("open('/dev/stderr', 'w').write('HIJACKED'); raise SystemExit(9)\n")
    env = {
        "ANTHROPIC_API_KEY": "sk-other", "OPENAI_API_KEY": "sk-openai-x", "AWS_SECRET_ACCESS_KEY": "aws-x", "GH_TOKEN": "gh-x",
        "AGENTQ_AGENT_SECRETS": json.dumps(["hunter2-hunter2", 'a"b\\c-long']), "DB": "postgres://u:longpassword@h/db",
        "ANTHROPIC_CUSTOM_HEADERS": "x-spy: yes", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
        "PYTHONPATH": ".", "PYTHONSTARTUP": "json.py",
    }  # fmt: skip
    echo = "echo hunter2-hunter2; echo $DB; printf '%s' 'a\"b\\c-long'"
    script = in_order([use("bash", {"command": SPY}), use("bash", {"command": echo}), say(f"the key is {KEY}")])
    with MessagesStub(script) as stub:
        child = here.start(stub, env)
        out, err = child.communicate(timeout=60)
        spied, echoed = [request.last_tool_results[0]["text"] for request in stub.asked[1:]]
        assert [request.key for request in stub.asked] == [KEY] * 3
        assert "x-spy" not in stub.asked[0].headers
    assert (child.returncode, err) == (0, "")
    written = out + err + here.trajectory.read_text() + spied + echoed
    for secret in (KEY, "sk-other", "hunter2", 'a"b', 'a\\"b', "longpassword"):
        assert secret not in written, secret
    seen = {line.partition("=")[0] for line in spied.partition("=====")[0].splitlines()}
    assert "PATH" in seen and "DB" in seen
    assert not [name for name in seen if name.startswith(("AGENTQ_AGENT", "OPENAI", "AWS", "GH_", "ANTHROPIC"))]
    # what the process began with is still shown by the system: wiped
    assert "AGENTQ_AGENT_KEY=*****" in spied
    assert echoed == "***\npostgres://u:***@h/db\n***"


def test_only_what_opens_accounts_is_kept_from_tools() -> None:
    env = dict.fromkeys(
        ("PATH", "DATABASE_URL", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "CLAUDE_X", "AGENTQ_SPEC"), "x"
    )
    assert sorted(without_keys(env)) == ["AGENTQ_SPEC", "DATABASE_URL", "PATH"]


def test_sigterm_ends_it_with_everything_saved(here: World) -> None:
    script = in_order([use("bash", {"command": "touch on; sleep 600"}), say("never")])
    with MessagesStub(script) as stub:
        child = here.start(stub)
        until((here.workspace / "on").exists)
        begin = time.monotonic()
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=20)
    assert (child.returncode, err) == (143, "") and time.monotonic() - begin < 45
    result = json.loads(out.splitlines()[-1])
    assert (result["event"], result["outcome"], result["turns"]) == ("result", "stopped", 1)
    assert here.records[-1]["outcome"] == "stopped" and result["usage"]["input"] == 100


def test_sigterm_in_the_middle_of_an_answer(here: World) -> None:
    with MessagesStub(always(hang(begun=True))) as stub:
        child = here.start(stub)
        until(lambda: stub.requests)
        time.sleep(0.2)
        child.terminate()
        out, _ = child.communicate(timeout=20)
    assert child.returncode == 143
    assert json.loads(out.splitlines()[-1])["usage"]["input"] == 100, "what was begun is paid for"


def test_sigkill_loses_at_most_the_step(here: World) -> None:
    script = in_order([use("bash", {"command": "touch one"}), use("bash", {"command": "touch two; sleep 600"})])
    with MessagesStub(script) as stub:
        child = here.start(stub)
        until((here.workspace / "two").exists)
        child.kill()
        child.communicate(timeout=20)
    past = load(here.trajectory)
    assert [message["role"] for message in past.messages] == ["user", "assistant", "user", "assistant"]
    session = str(here.trajectory)
    with MessagesStub(in_order([say("went on")])) as stub:
        told = here.work(stub, session=session)
        [request] = stub.asked
    assert told["outcome"] == "done" and told["session"] != session
    assert told["usage"]["input"] == 100, "of this run alone"
    assert [message["role"] for message in request.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert request.last_tool_results[0]["text"] == INTERRUPTED
    assert request.last_text.endswith("Make it so.")
    assert load(here.trajectory).messages[:4] == past.messages, "its trajectory stands alone"


def test_what_was_known_is_known_to_the_one_that_goes_on(here: World) -> None:
    with MessagesStub(in_order([use("write", {"file_path": "a.py", "content": ""}), say("half done")])) as stub:
        here.work(stub)
    session = str(here.trajectory)
    with MessagesStub(in_order([say("rest done")])) as stub:
        here.work(stub, session=session)
        assert "half done" in stub.asked[0].text
    assert load(here.trajectory).memory["files"] == ["a.py"]


@pytest.mark.parametrize("session", ["/nowhere/x.trajectory", "{root}/prompt.md"])
def test_a_conversation_that_is_not_there_is_a_clear_end(here: World, session: str) -> None:
    with MessagesStub(always(say("never"))) as stub:
        told = here.work(stub, session=session.format(root=here.root))
        assert stub.requests == []
    assert (told["outcome"], told["cause"]) == ("failed", "request")
    assert "start a new conversation" in told["summary"]


def test_a_torn_last_record_is_none_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t"
    kept = Trajectory(path, str)
    kept.add("begin", version=1)
    kept.add("message", message={"role": "user", "content": []})
    kept.close()
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines()[0]) + 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert len(load(path).messages) == 0
    path.write_bytes(whole.replace(b"message", b'"', 1))
    with pytest.raises(UserError, match=":2: not a record"):
        load(path)
    with pytest.raises(FileExistsError):
        Trajectory(path, str)


def test_a_bad_job_and_a_missing_prompt(here: World) -> None:
    for text in (
        "{",
        "[]",
        '{"spec": "x"}',
        json.dumps({**here.job(), "extra": 1}),
        json.dumps({**here.job(), "sandbox": "no"}),
    ):
        file = here.root / "job"
        file.write_text(text)
        with pytest.raises(UserError, match="is not a job"):
            jobs.load(file)
    (here.root / "prompt.md").write_text("  \n")
    with MessagesStub(always(say("never"))) as stub:
        assert "is empty" in here.work(stub)["summary"] and stub.requests == []


def test_nothing_else_imports_the_sdk() -> None:
    code = (
        "import sys, agentq.drivers.builtin, agentq.agent.loop, agentq.agent.tools;"
        "sys.exit(sum(name in sys.modules for name in ('anthropic', 'httpx', 'httpx2')))"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def test_the_trajectory_of_a_run_that_never_asked(here: World) -> None:
    with MessagesStub(always(say("x"))) as stub:
        here.work(stub, seconds=0.000001)
    assert [record["type"] for record in records(here.trajectory)][-1] == "end"


def test_another_model_gets_no_thinking_that_is_not_its_own(here: World) -> None:
    past = Trajectory(here.root / "past", str)
    past.add("begin", version=1, model=MODEL)
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    call = {"type": "tool_use", "id": "t", "name": "bash", "input": {"command": "true"}}
    for message in (
        {"role": "user", "content": [{"type": "text", "text": "go"}]},
        {"role": "assistant", "content": [thought]},
        {"role": "user", "content": [{"type": "text", "text": "on"}]},
        {"role": "assistant", "content": [thought, call]},
    ):
        past.add("message", message=message)
    past.close()
    for model, kept in ((MODEL, True), ("third-model", False)):
        with MessagesStub(in_order([say("done")])) as stub:
            assert here.work(stub, session=str(here.root / "past"), model=model)["outcome"] == "done"
            assert ("signature" in str(stub.asked[0].body)) == kept
            assert [message["role"] for message in stub.asked[0].messages] == ["user", "assistant"] * 2 + ["user"]


def test_a_short_key_is_a_word_and_stays_in_what_the_model_reads(here: World) -> None:
    (here.workspace / "f").write_text("the x of ollama\n")
    with MessagesStub(in_order([use("read", {"file_path": "f"}), say("x ollama")])) as stub:
        told = here.work(stub, key="x", secrets=("ollama",))
        assert stub.asked[1].last_tool_results[0]["text"].endswith("the x of ollama")
    assert told["summary"] == "x ollama"
