"""Compaction at 60 % of the window: it comes in time, loses nothing that is ours to keep, and the work goes on."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from agent_harness import World, world
from support.messages_stub import MessagesStub, Reply, Request, fail, in_order, say, use

from agentq.agent import talk
from agentq.agent.compact import MIN_MESSAGES, Compaction
from agentq.agent.memory import Memory
from agentq.agent.shell import Run
from agentq.core.usage import Usage

FULL = Usage(input=100, output=100, cache_read=590, cache_write=210)  # 1000 tokens
SMALL = Usage(input=300, output=10)


@pytest.fixture
def here(tmp_path: Path) -> World:
    return world(tmp_path, "Write the importer.\n")


def summary(number: int) -> Reply:
    return say(f"## Done\nnothing\n## Decisions\n- decision {number}: because\n## Next steps\nstep {number}")


def is_summary(request: Request) -> bool:
    return "Use exactly this form" in request.last_text


class Scripted:
    """Steps that fill the window every third time; summaries are answered apart."""

    def __init__(self, steps: list[Reply]) -> None:
        self.steps, self.summaries = list(steps), 0

    def __call__(self, request: Request) -> Reply:
        if is_summary(request):
            self.summaries += 1
            return summary(self.summaries)
        return self.steps.pop(0)


def write(name: str, usage: Usage = SMALL) -> Reply:
    return use("write", {"file_path": name, "content": "x\n"}, usage=usage)


def bash(command: str, usage: Usage = SMALL) -> Reply:
    return use("bash", {"command": command}, usage=usage)


def test_two_compactions_and_still_it_finishes(here: World) -> None:
    failing = "echo '2 passed'; echo 'FAILED tests/test_a.py::test_quotes'; exit 1"
    steps = [
        write("a.py"), bash("touch by-shell.txt"), bash(f": pytest tests; {failing}", FULL),
        write("b.py"), bash(": pytest tests; echo 3 passed", SMALL), write("c.py", FULL),
        write("d.py"), say("It works."),
    ]  # fmt: skip
    script = Scripted(steps)
    with MessagesStub(script) as stub:
        told = here.work(stub, window=1600, keep="The spec is csv-import; mind the quotes.")
        asked = stub.asked
    assert (told["outcome"], told["summary"], script.summaries) == ("done", "It works.", 2)
    assert len(here.of("compacted")) == 2 and told["turns"] == 10
    assert [is_summary(request) for request in asked] == [False] * 3 + [True] + [False] * 3 + [True] + [False] * 2
    first, second = asked[4], asked[8]
    for request in (first, second):
        assert len(request.messages) == 1, "a new conversation, without torn calls"
        for fact in (
            "csv-import",
            "stage implement",
            "Write the importer.",
            "mind the quotes",
            "a.py",
            "by-shell.txt",
        ):
            assert fact in request.text, fact
    assert "exit status 1" in first.text and "failing: FAILED tests/test_a.py::test_quotes" in first.text
    assert "decision 1: because" in first.text and "step 1" in first.text
    # the summary of the second time says nothing of the first decision: it is there still
    assert "- decision 1: because" in second.text and "- decision 2: because" in second.text
    assert "step 2" in second.text and "step 1" not in second.text
    assert "a.py, b.py, c.py" in second.text and "3 passed" in second.text
    purposes = [record["purpose"] for record in here.records if record["type"] == "usage"]
    assert purposes.count("compaction") == 2
    assert sorted(path.name for path in here.workspace.glob("*.py")) == ["a.py", "b.py", "c.py", "d.py"]


@pytest.mark.parametrize(("used", "compacts"), [(959, 0), (960, 1)])
def test_it_happens_at_sixty_percent_of_the_window(here: World, used: int, compacts: int) -> None:
    # what was said since the last answer counts, too: the result of one call
    since = talk.size([{"role": "user", "content": [talk.result("toolu_0001_0", "(no output)", error=False)]}])
    usage = Usage(input=100, output=59, cache_read=used - since - 359, cache_write=200)
    script = Scripted([bash("true"), bash("true", usage), say("done")])
    with MessagesStub(script) as stub:
        here.work(stub, window=1600)
    assert script.summaries == compacts


def test_a_context_budget_that_proves_too_low_compacts_early(here: World) -> None:
    steps = [bash("true", Usage(400)), bash("true", Usage(1000)), bash("true", Usage(400)), say("done")]
    script = Scripted(steps)
    with MessagesStub(script) as stub:
        told = here.work(stub, window=200_000, context_budget=900)
    assert (told["outcome"], script.summaries) == ("done", 1)


def test_a_budget_smaller_than_the_task_does_not_compact_without_end(here: World) -> None:
    script = Scripted([*[bash("true", Usage(1000))] * 10, say("done")])
    with MessagesStub(script) as stub:
        assert here.work(stub, window=200_000, context_budget=10)["outcome"] == "done"
    assert script.summaries == 0


@pytest.mark.parametrize("answer", [use("bash", {"command": "touch oops"}), Reply(()), say("")])
def test_a_model_that_writes_no_summary_loses_no_facts(here: World, answer: Reply) -> None:
    steps = [
        use("write", {"file_path": "a.py", "content": ""}, "I chose commas."),
        bash("true", FULL),
        say("done"),
    ]
    with MessagesStub(lambda request: answer if is_summary(request) else steps.pop(0)) as stub:
        assert here.work(stub, window=1600)["outcome"] == "done"
        assert "a.py" in stub.asked[-1].text and "I chose commas." in stub.asked[-1].text
    assert not (here.workspace / "oops").exists()


TOO_LONG = fail(400, message="prompt is too long: 250000 tokens > 200000 maximum")


def test_a_server_that_finds_it_too_long_gets_it_shorter(here: World) -> None:
    steps = [bash("seq 1 20000"), bash("echo more"), TOO_LONG, say("done")]
    script = Scripted(steps)
    with MessagesStub(script) as stub:
        told = here.work(stub)
        request = next(one for one in stub.asked if is_summary(one))
    assert (told["outcome"], script.summaries) == ("done", 1)
    assert len(str(request.messages)) < 8_000, "long results lost their middle"


def test_what_is_too_long_after_that_has_the_cause_context(here: World) -> None:
    script = Scripted([bash("echo x"), TOO_LONG, TOO_LONG])
    with MessagesStub(script) as stub:
        told = here.work(stub)
    assert (told["outcome"], told["cause"], script.summaries) == ("failed", "context", 1)


def test_when_not_even_the_summary_fits_the_facts_alone_go_on(here: World) -> None:
    steps = [use("write", {"file_path": "a.py", "content": ""}, "First words."), TOO_LONG, say("done")]
    with MessagesStub(lambda request: TOO_LONG if is_summary(request) else steps.pop(0)) as stub:
        assert here.work(stub)["outcome"] == "done"
        assert "First words." in stub.asked[-1].text and "a.py" in stub.asked[-1].text


def test_a_task_that_alone_is_too_long_is_told_at_once(here: World) -> None:
    with MessagesStub(in_order([TOO_LONG])) as stub:
        told = here.work(stub)
        assert (told["cause"], len(stub.requests)) == ("context", 1)


def test_a_limit_holds_for_compactions_too(here: World) -> None:
    script = Scripted([bash("true"), bash("true", FULL), say("done")])
    with MessagesStub(script) as stub:
        told = here.work(stub, window=1600, turns=2)
    assert (told["outcome"], told["cause"], script.summaries) == ("limit", "turns", 0)


# ---------------------------------------------------------------- the parts


def test_a_server_that_counts_nothing_is_estimated() -> None:
    compaction = Compaction(1000)
    long: list[dict[str, Any]] = [{"role": "user", "content": [talk.text("x" * 3000)]}] * MIN_MESSAGES
    compaction.answered(Usage(), long)
    assert compaction.fill > 2900 and compaction.due(long)


def test_early_compaction_needs_twice_what_a_conversation_began_with(tmp_path: Path) -> None:
    talked: list[dict[str, Any]] = [{"role": "user", "content": []}] * MIN_MESSAGES
    compaction = Compaction(100_000, 900)
    for used, due in [(400, False), (899, False), (900, True)]:
        compaction.answered(Usage(used), talked)
        assert compaction.due(talked) == due and not compaction.due(talked[1:])
    compaction.done("task", Memory("s", "implement"), tmp_path)
    for used, due in [(700, False), (1399, False), (1400, True)]:
        compaction.answered(Usage(used), talked)
        assert compaction.due(talked) == due


def test_shrinking_never_tears_a_call_from_its_result() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": [talk.text("task")]}]
    for number in range(40):
        call = {"type": "tool_use", "id": f"t{number}", "name": "bash", "input": {"command": "y" * 9000}}
        messages += [
            {"role": "assistant", "content": [talk.text("z" * 5000), call]},
            {"role": "user", "content": [talk.result(f"t{number}", "r" * 9000, error=False)]},
        ]
    short = talk.shrunk(messages, 10_000)
    assert talk.size(short) <= 10_000 and short[0] == messages[0]
    assert [message["role"] for message in short] == ["user", *["assistant", "user"] * (len(short) // 2)]
    for calls, results in zip(short[1::2], short[2::2], strict=True):
        assert talk.blocks(calls, "tool_use")[0]["id"] == talk.blocks(results, "tool_result")[0]["tool_use_id"]
    assert short[-1]["content"][0]["tool_use_id"] == "t39"
    assert len(str(messages[1])) > 14_000, "the conversation itself is as it was"


def test_memory_keeps_the_newest_run_of_each_test_and_survives_a_file(tmp_path: Path) -> None:
    memory = Memory("s", "implement")
    for number in range(20):
        memory.ran(Run(f"npm test {number % 8}", f"FAIL a{number}\nok", "exit status 1"))
        memory.wrote(f"f{number}")
        memory.wrote("f0")
    memory.ran(Run("ls -l", "FAIL never"))
    memory.summarised("x\n### Decisions made\n\n* one\n* two\n## Next\n* three")
    memory.summarised("## Decisions\n- two\n- four")
    again = Memory(**asdict(memory))
    facts = again.facts(tmp_path)
    assert "FAIL a19" in facts and "FAIL a11" not in facts and "never" not in facts
    assert memory.decisions == ["one", "two", "four"] and "three" not in facts
    memory.ran(Run("npm test 6", "ok"))
    memory.ran(Run("npm test new", "ok"))
    assert "npm test 6" in memory.tests and "npm test new" in memory.tests
    assert memory.files[0] == "f0" and memory.files.count("f0") == 1


def test_a_long_conversation_that_is_gone_on_with_is_compacted_first(here: World) -> None:
    with MessagesStub(in_order([bash("seq 1 4000"), bash("true"), say("half done")])) as stub:
        here.work(stub)
    script = Scripted([say("done")])
    with MessagesStub(script) as stub:
        told = here.work(stub, session=str(here.trajectory), window=6000)
        assert is_summary(stub.asked[0]) and len(stub.asked[1].messages) == 1
    assert (told["outcome"], script.summaries) == ("done", 1)


@pytest.mark.parametrize(("window", "size"), [(200_000, 30_000), (20_000, 8_000), (1_000, 2_000)])
def test_a_small_window_gets_short_results(here: World, window: int, size: int) -> None:
    assert Compaction(window).result_size == size
    with MessagesStub(in_order([bash("seq 1 20000"), say("done")])) as stub:
        here.work(stub, window=window)
        assert size <= len(stub.asked[1].last_tool_results[0]["text"]) < size + 100
