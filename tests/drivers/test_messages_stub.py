"""The stub of the Messages API, checked by an independent client: the official SDK."""

import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from support.messages_stub import (
    MessagesStub,
    Reply,
    Request,
    always,
    cut,
    fail,
    hang,
    in_order,
    say,
    together,
    use,
    write,
    writes,
)

from agentq.core.usage import Usage

TOOLS: list[Any] = [
    {"name": "bash", "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}}},
    {"name": "write", "input_schema": {"type": "object", "properties": {"file_path": {}, "content": {}}}},
]


@pytest.fixture(scope="module")
def sdk() -> Iterator[anthropic.Anthropic]:
    """One for all: making one takes longer than a test."""
    with anthropic.Anthropic(api_key="sk-x", base_url="http://127.0.0.1:9", max_retries=0) as client:
        yield client


@pytest.fixture
def clients(sdk: anthropic.Anthropic) -> Any:
    """clients(stub): the SDK against a stub, without retries."""

    def client(stub: MessagesStub, timeout: float = 20.0) -> anthropic.Anthropic:
        return sdk.with_options(base_url=stub.url, timeout=timeout)

    return client


def ask(client: anthropic.Anthropic, messages: Any = "hi", **more: Any) -> Any:
    talk = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    return client.messages.create(model="claude-sonnet-5-5", max_tokens=100, messages=talk, **more)


def streamed(client: anthropic.Anthropic, **more: Any) -> Any:
    talk: Any = [{"role": "user", "content": "hi"}]
    with client.messages.stream(model="claude-sonnet-5-5", max_tokens=100, messages=talk, **more) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("call", [ask, streamed])
def test_a_message_says_the_same_streamed_and_whole(clients: Any, call: Any) -> None:
    used = Usage(input=11, output=7, cache_read=5, cache_write=3)
    reply = together(
        say("I look. Ünï"),
        use("bash", {"command": "ls 'ä'"}, usage=used),
        use("bash", {"command": "pwd"}, usage=used),
    )
    with MessagesStub(always(reply)) as stub:
        message = call(clients(stub), tools=TOOLS)
        assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
        assert message.content[0].text == "I look. Ünï"
        assert [block.input for block in message.content[1:]] == [{"command": "ls 'ä'"}, {"command": "pwd"}]
        assert message.content[1].id != message.content[2].id
        assert message.stop_reason == "tool_use"
        usage = message.usage
        assert (usage.input_tokens, usage.output_tokens) == (11, 7)
        assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (5, 3)
        [request] = stub.requests
        assert (request.number, request.key, request.has_tool("bash")) == (0, "sk-x", True)


def test_a_conversation_with_a_tool_goes_through_and_a_broken_one_is_refused(clients: Any) -> None:
    with MessagesStub(in_order([use("bash", {"command": "ls"}, id="t1"), say("done")])) as stub:
        client = clients(stub)
        first = ask(client, tools=TOOLS)
        talk: list[Any] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": first.content}]
        with pytest.raises(anthropic.BadRequestError, match="tool_result"):
            ask(client, [*talk, {"role": "user", "content": "and?"}], tools=TOOLS)
        result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a.txt"}]}
        assert ask(client, [*talk, {"role": "user", "content": [result]}], tools=TOOLS).content[0].text == "done"
        assert [found["text"] for found in stub.requests[-1].last_tool_results] == ["a.txt"]
        with pytest.raises(anthropic.BadRequestError, match="is over"):
            ask(client, tools=TOOLS)


def test_requests_without_tools_do_not_eat_from_the_list(clients: Any) -> None:
    with MessagesStub(in_order([say("first")], aside=say("a title"))) as stub:
        client = clients(stub)
        assert ask(client).content[0].text == "a title"
        assert ask(client, tools=TOOLS).content[0].text == "first"
        assert [request.number for request in stub.requests] == [0, 1] and len(stub.asked) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError), (401, anthropic.AuthenticationError), (402, anthropic.APIStatusError),
        (403, anthropic.PermissionDeniedError), (404, anthropic.NotFoundError), (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError), (529, anthropic.APIStatusError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", [ask, streamed])
def test_errors_have_their_status_kind_and_headers(
    clients: Any, status: int, error: type[Exception], call: Any
) -> None:
    with MessagesStub(always(fail(status, message="so it is", headers={"retry-after": "7"}))) as stub:
        with pytest.raises(error) as raised:
            call(clients(stub))
        seen: Any = raised.value
        assert (seen.status_code, seen.response.headers["retry-after"]) == (status, "7")
        assert seen.body["error"]["message"] == "so it is"


def test_an_error_in_a_stream_that_began_well(clients: Any) -> None:
    with (
        MessagesStub(always(fail(529, begun=True))) as stub,
        pytest.raises(anthropic.APIStatusError, match="overloaded"),
    ):
        streamed(clients(stub))


@pytest.mark.parametrize("call", [ask, streamed])
@pytest.mark.parametrize("reply", [cut(), hang(begun=True), hang()], ids=["cut", "stalled", "hang"])
def test_what_breaks_off_or_hangs_is_an_error_of_the_connection(clients: Any, call: Any, reply: Reply) -> None:
    # While a stream is read, the SDK passes on the errors of its HTTP library.
    broken = (anthropic.APIConnectionError, *transport_errors())
    with MessagesStub(always(reply)) as stub, pytest.raises(broken):
        call(clients(stub, timeout=0.5))


def transport_errors() -> tuple[type[Exception], ...]:
    import sys

    return tuple(sys.modules[name].TransportError for name in ("httpx", "httpx2") if name in sys.modules)


def test_models_tokens_and_greetings(clients: Any) -> None:
    import urllib.request

    with MessagesStub(always(say("x")), window=64_000, models=("m-1", "m-2")) as stub:
        client = clients(stub)
        assert [(model.id, model.max_input_tokens) for model in client.models.list()] == [
            ("m-1", 64_000),
            ("m-2", 64_000),
        ]
        assert client.models.retrieve("m-2").id == "m-2"
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("m-3")
        talk: Any = [{"role": "user", "content": "x" * 4000}]
        assert client.messages.count_tokens(model="m-1", messages=talk).input_tokens > 1000
        for method, path in (("HEAD", "/"), ("GET", "/api/hello")):
            with urllib.request.urlopen(urllib.request.Request(stub.url + path, method=method)) as answer:
                assert answer.status == 200
        assert all(request.number == -1 for request in stub.requests)


def test_a_script_that_writes_works_with_the_tools_it_is_offered() -> None:
    script = writes({"a.txt": "it's\n", "b/c.txt": "2"}, then="all done")

    def request(*results: Any, tools: Any = TOOLS) -> Request:
        blocks = [
            {"type": "tool_result", "tool_use_id": "x", "content": "no" if bad else "", "is_error": bad}
            for bad in results
        ]
        return Request(
            "POST", "/v1/messages", {}, {"messages": [{"role": "user", "content": blocks}], "tools": tools}
        )

    def call(*results: bool) -> Any:
        block = script(request(*results)).blocks[0]
        return block.get("text") or (block["name"], block["input"])

    assert call() == ("write", {"file_path": "a.txt", "content": "it's\n"})
    assert call(True) == ("bash", {"command": "mkdir -p \"$(dirname a.txt)\" && printf %s 'it'\\''s\n' > a.txt"})
    assert call(True, False) == call(False) == ("write", {"file_path": "b/c.txt", "content": "2"})
    assert call(False, False) == ("bash", {"command": "git add -A && git commit -q -m 'work'"})
    assert call(False, False, False) == "all done"
    assert "does not work: no" in call(True, True)
    assert write(request(tools=TOOLS[:1]), "a", "b").blocks[0]["name"] == "bash"


def test_what_a_script_raises_is_not_lost(clients: Any) -> None:
    def script(_request: Request) -> Reply:
        raise KeyError("oh")

    with (
        pytest.raises(KeyError, match="oh"),
        MessagesStub(script) as stub,
        pytest.raises(anthropic.InternalServerError),
    ):
        ask(clients(stub))


def test_many_clients_at_once_and_an_end_that_waits_for_nobody(clients: Any) -> None:
    seen: list[str] = []
    with MessagesStub(lambda request: hang() if request.last_text == "stay" else say(request.last_text)) as stub:
        client = clients(stub)

        def talk(number: int) -> None:
            seen.append(ask(client, f"n{number}").content[0].text)

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seen) == sorted(f"n{number}" for number in range(20))
        assert sorted(request.number for request in stub.requests) == list(range(20))
        caught: list[BaseException] = []

        def stay() -> None:
            try:
                ask(client, "stay")
            except anthropic.APIConnectionError as error:
                caught.append(error)

        waiting = threading.Thread(target=stay)
        waiting.start()
        while len(stub.requests) < 21:
            threading.Event().wait(0.01)
    waiting.join(10)
    assert not waiting.is_alive()
    assert not [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]
