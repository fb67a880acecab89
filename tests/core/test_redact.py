"""Passwords do not reach what is written down, however the text arrives."""

from hypothesis import given
from hypothesis import strategies as st

from agentq.core.redact import HIDDEN, Redactor, in_urls, passwords

SECRET = "hunter2-hunter2"


def test_the_password_of_a_url_is_hidden_and_the_rest_is_not() -> None:
    assert in_urls(f"at postgresql+psycopg://me:{SECRET}@host:5432/db?x=1 now") == (
        "at postgresql+psycopg://me:***@host:5432/db?x=1 now"
    )
    assert in_urls(f"host=h password={SECRET} user=u") == "host=h password=*** user=u"
    assert in_urls("sqlite:////tmp/dev.db and http://host/a:b@c") == "sqlite:////tmp/dev.db and http://host/a:b@c"


def test_the_password_of_an_option_is_hidden_however_it_is_written() -> None:
    for text in (
        f"password='{SECRET} x' user=u", f"password = {SECRET} user=u", f"PGPASSWORD={SECRET} psql",
        f'{{"password": "{SECRET}", "user": "u"}}', f'password="{SECRET}\\" x" u',
    ):  # fmt: skip
        assert "hunter2" not in in_urls(text) and "***" in in_urls(text), text
    plain = "Reset password: the form; passwords = rows"
    assert in_urls(plain) == plain
    assert passwords(["host=h password='two \\'words' user=u"]) == tuple(
        sorted({"two 'words", "two%20%27words", "two+%27words"}, key=lambda form: (-len(form), form))
    )
    assert "quo'te\"-word" in passwords(["postgres://u:quo'te\"-word@h/d"])


def test_passwords_are_found_in_each_of_their_forms() -> None:
    assert set(passwords(["postgres://u:p%40ss%2Fword1@h/d"])) == {"p%40ss%2Fword1", "p@ss/word1", "p%40ss/word1"}
    assert passwords(["postgres://postgres:postgre@h/d", "sqlite:///x.db", ""]) == ()


@given(
    st.lists(st.one_of(st.just(SECRET), st.text("hunter2-x\n", max_size=9)), max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
)
def test_a_torn_secret_is_hidden_and_nothing_else_changes(parts: list[str], sizes: list[int]) -> None:
    data = "".join(parts).encode()
    redactor = Redactor([SECRET])
    out, at, step = b"", 0, 0
    while at < len(data):
        size = sizes[step % len(sizes)]
        out += redactor.feed(data[at : at + size])
        at, step = at + size, step + 1
    out += redactor.flush()
    assert out == data.replace(SECRET.encode(), HIDDEN.encode())


def test_what_cannot_become_a_secret_is_not_held_back() -> None:
    redactor = Redactor([SECRET])
    assert redactor.feed(b"progress 1 %\n") == b"progress 1 %\n"
    assert redactor.feed(b"a hunt") == b"a "
    assert redactor.feed(b"ing trip") == b"hunting trip"
