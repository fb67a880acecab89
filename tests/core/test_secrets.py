"""What is a secret: found in every form it gets written in, and nothing else is."""

import base64
import json
import random
import string
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.size import FULL

from agentq.core import redact, secrets
from agentq.core.redact import Redactor
from agentq.core.secrets import Found, known_values, scan, scan_added

LETTERS = string.ascii_letters + string.digits
DRAW = random.Random(5)


def drawn(count: int, letters: str = LETTERS) -> str:
    """A text as a provider draws it. Not written out here: what scans this file would be right to complain."""
    return "".join(DRAW.choice(letters) for _ in range(count))


KEY = drawn(40)
TOKENS = {
    "AWS access key": lambda: "AKIA" + drawn(16, string.ascii_uppercase + "234567"),
    "GitHub token": lambda: "ghp_" + drawn(36),
    "GitLab token": lambda: "glpat-" + drawn(20),
    "Slack token": lambda: f"xoxb-{drawn(12, string.digits)}-{drawn(12, string.digits)}-{drawn(24)}",
    "Slack webhook": lambda: f"https://hooks.slack.com/services/T{drawn(8)}/B{drawn(8)}/{drawn(24)}",
    "Stripe key": lambda: "sk_" + "live_" + drawn(24),
    "Anthropic key": lambda: "sk-ant-" + "api03-" + drawn(93) + "AA",
    "OpenAI key": lambda: "sk-" + "proj-" + drawn(74) + "T3Blbk" + "FJ" + drawn(74),
    "Google API key": lambda: "AIza" + drawn(35),
    "npm token": lambda: "npm_" + drawn(36),
    "PyPI token": lambda: "pypi-" + "AgEIcHlwaS5vcmc" + drawn(140),
    "SendGrid key": lambda: f"SG.{drawn(22)}.{drawn(43)}",
    "Hugging Face token": lambda: "hf_" + drawn(34),
    "Neon key": lambda: "napi_" + drawn(64, string.ascii_lowercase + string.digits),
    "OpenRouter key": lambda: "sk-or-v1-" + drawn(64, "0123456789abcdef"),
    "Vault token": lambda: "hvs." + drawn(95),
    "private key": lambda: "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "\n".join(drawn(64) for _ in range(9)),
}


# ---------------------------------------------------------------- what this host knows


@pytest.mark.parametrize(
    "name",
    ["ANTHROPIC_API_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "MY_SECRET", "npm_token",
     "STRIPE_KEY_2", "SIGNING_KEYS", "GOOGLE_CREDENTIALS_JSON", "OPENAI_ADMIN", "SERVICE_PAT", "apikey", "X_PASSPHRASE"],
)  # fmt: skip
def test_a_variable_with_a_secret_name_is_known(name: str) -> None:
    assert KEY in known_values({name: KEY})


@pytest.mark.parametrize(
    ("name", "value"),
    [("SSH_AUTH_SOCK", "/tmp/ssh-abc/agent.123"), ("AWS_REGION", "eu-central-1"), ("PASSWORD", "postgres"),
     ("API_KEY", "short"), ("DB_PASSWORD", "password"), ("GITHUB_ACTIONS", "true"), ("TOKEN", "disabled"),
     ("ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1"), ("KEY_FILE", "/etc/keys/server.pem"), ("HOME", "/home/someone"),
     ("ANTHROPIC_MODEL", "claude-sonnet-latest"), ("PATH", "/usr/bin:/bin"), ("MAX_TOKENS", "100000000"),
     ("EDITOR", "vim-but-longer-9"), ("KEYBOARD", "qwertz-layout-1"), ("PWD", "/home/someone/project")],
)  # fmt: skip
def test_an_ordinary_value_is_not(name: str, value: str) -> None:
    assert known_values({name: value}) == ()


def test_a_password_in_a_url_is_known() -> None:
    assert "hunter2-hunter2" in known_values({"DATABASE_URL": "postgres://me:hunter2-hunter2@db/x"})


@given(st.text(string.printable, min_size=12, max_size=60), st.text(max_size=5), st.text(max_size=5))
def test_every_form_of_a_secret_is_hidden(value: str, before: str, after: str) -> None:
    """Plain, in a URL, in JSON, and in base64 of any longer text around it."""
    known = secrets.written(value)
    for form in (value, quote(value, safe=""), json.dumps(value)[1:-1]):
        assert redact.HIDDEN in redact.without(form, known)
        assert value not in redact.without(form, known)
    encoded = base64.b64encode((before + value + after).encode()).decode()
    shown = redact.without(encoded, known)
    assert redact.HIDDEN in shown
    assert len(shown) <= len(encoded) - len(value) + 3 * 4


def test_the_lines_of_a_key_are_hidden_one_by_one() -> None:
    key = TOKENS["private key"]()
    known = known_values({"DEPLOY_KEY": key})
    for line in key.splitlines()[1:]:
        assert line in known
    assert "-----BEGIN RSA PRIVATE KEY-----" not in known


def test_the_redactor_takes_many_forms_at_a_bearable_price() -> None:
    known = known_values({f"S{number}_TOKEN": drawn(40) for number in range(20)})
    redactor, text = Redactor(known), (b"an ordinary line of a build, number 12345\n" * 1600)[:65536]
    begin = time.perf_counter()
    for _ in range(10):
        assert len(redactor.feed(text)) > 65000
    speed = 0.65536 / (time.perf_counter() - begin)
    print(f"{len(known)} forms: {speed:.1f} MB/s")
    assert speed > 0.3
    assert redactor.feed(b"x" + known[-1].encode()[:5]) != b"x" + known[-1].encode()[:5], "held back"


# ---------------------------------------------------------------- what looks like one


@pytest.mark.parametrize("kind", TOKENS)
def test_a_credential_is_found_and_not_shown(kind: str) -> None:
    for shape in ("a = '{}'", "{}", "x\n\n  - {}\n", '{{"k": "{}"}}', "KEY={}\nB=1", "curl -H 'x: {}' y"):
        value = TOKENS[kind]()
        text = shape.format(value)
        found = scan(text)
        assert [one.kind for one in found] == [kind], text
        assert found[0].line == text[: text.index(value)].count("\n") + 1
        assert found[0].sure
        assert value[10:] not in found[0].shown
        assert scan(text.encode()) == scan(text.encode("utf-16")) == found


@pytest.mark.parametrize(
    "line",
    ['api_key = "{}"', "SECRET_KEY='{}'", "  password: '{}'", '"client_secret": "{}",', "export DB_PASSWORD={}",
     "API_TOKEN={}", 'access_token => "{}"', 'config["auth_key"] = "{}"', "apiKey: `{}`", 'let authToken := "{}"'],
)  # fmt: skip
def test_a_random_value_with_a_secret_name_is_found(line: str) -> None:
    found = scan(line.format(drawn(40)))
    assert [(one.kind, one.line, one.sure) for one in found] == [("secret value", 1, False)]


def test_a_password_in_a_url_is_found() -> None:
    assert scan(f"postgres://app:{drawn(20)}@ep-cool.eu.neon.tech/db")[0].kind == "password in a URL"
    for harmless in (
        f"postgres://app:{drawn(20)}@localhost/db", "postgres://user:password1@host/db", "https://a:b@c.com",
        "http://proxy:${PROXY_PASSWORD_1}@h.com", f"see https://x.com/{drawn(30)}@v1",
    ):  # fmt: skip
        assert scan(harmless) == [], harmless


@pytest.mark.parametrize(
    "line",
    ["AKIAIOSFODNN7EXAMPLE", "sk_live_xxxxxxxxxxxxxxxxxxxxxxxx", "ghp_" + "a" * 36, "AIza" + "0" * 35,
     'api_key = "your-api-key-goes-here-12"', 'secret = os.environ["SECRET_KEY_BASE_1"]', 'token_type = "{}"',
     'public_key = "{}"', 'secret_hash = "{}"', "const tokens = tokenize(source1, {{ position2 }})",
     'password = "correct-horse-battery-staple-22"', "secretName: my-application-tls-v1-2024",
     'csrf_token = "{}"', "token = {}.value", "password: $2b$12${}", 'secret_id = "123e4567-e89b-12d3-a456-426614174000"',
     "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----", "-----BEGIN PUBLIC KEY-----\n{}{}",
     "integrity: sha512-{}{}==", "The token " + "ey" + "Jhbg", 'key = "{}"', "keyboard: '{}'"],
)  # fmt: skip
def test_what_is_no_secret_is_not_found(line: str) -> None:
    value = drawn(40)
    assert scan(line.replace("{}", value).replace("{{", "{").replace("}}", "}")) == []


def test_a_jwt_counts_only_where_it_is_used_as_a_key() -> None:
    def token(claims: str) -> str:
        head, body = (
            base64.urlsafe_b64encode(text.encode()).decode().rstrip("=") for text in ('{"alg":"HS256"}', claims)
        )
        return f"{head}.{body}.{drawn(43)}"

    real, sample = token('{"role":"service","iat":17}'), token('{"sub":"1234567890","name":"John Doe"}')
    assert [one.kind for one in scan(f"SERVICE_ROLE_KEY={real}; auth={real}")] == ["JWT"]
    assert scan(f"see {real}") == []
    assert scan(f"token={sample}") == []


def test_a_comment_allows_a_value_but_never_a_known_secret() -> None:
    value = TOKENS["GitHub token"]()
    assert scan(f"a = '{value}'  # agentq: allow-secret") == []
    assert scan(f"# agentq: allow-secret\na = '{value}'") == []
    assert scan(f"# agentq: allow-secret\n\na = '{value}'") != []
    assert scan(f"a = '{value}'\n# agentq: allow-secret") != []
    found = scan(f"a = '{value}'  # agentq: allow-secret", known=(value,))
    assert [one.kind for one in found] == ["known secret"]
    assert value[:4] not in found[0].shown


def test_tests_and_documents_show_samples() -> None:
    text, sure = f'secret = "{drawn(40)}"', TOKENS["GitHub token"]()
    for path in (
        "tests/test_a.py",
        "docs/setup.md",
        "a/b_test.go",
        "x/fixtures/users.json",
        "README.md",
        "uv.lock",
    ):
        assert scan(text, path=path) == []
        assert scan(sure, path=path) != []
    for path in ("app/settings.py", "src/latest/a.ts", "contest.py", ".env"):
        assert scan(text, path=path) != []


def test_only_what_a_change_adds() -> None:
    old, new = TOKENS["GitHub token"](), TOKENS["Stripe key"]()
    before = f"a = '{old}'\n".encode()
    after = f"# moved\n\nb = '{old}'\nc = '{new}'\n".encode()
    assert scan_added(before, after) == [Found("Stripe key", 4, scan(new)[0].shown)]
    assert len(scan_added(None, after)) == 2
    assert scan_added(after, before) == []


@given(st.binary(max_size=300), st.sampled_from(sorted(TOKENS)))
def test_what_is_around_it_does_not_hide_it(noise: bytes, kind: str) -> None:
    text = noise.replace(b"agentq", b"") + b"\n" + TOKENS[kind]().encode() + b"\n" + noise
    if text[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        assert kind in [one.kind for one in scan(text)]


HOSTILE = {
    "one letter": "a", "secret": "secret", "token=": "token=", "token  =  ": "token        =        \"", "eyJ": "eyJ",
    "eyJ.eyJ.": "eyJaaaaaaaaaaa.eyJaaaaaaaaaaa.", "urls": "a://b:", "a://": "a://", "password=\"aA1": 'password="aA1',
    "keys": "-----BEGIN PRIVATE KEY-----\n", "header": "-----BEGIN RSA PRIVATE KEY-----\nA: b\n", "AKIA": "AKIA2222", "xox": "xoxb-a-",
    "digits": "1234567890:AA", "dots": "secret.", "dashes": "api_key-", "quotes": "secret\"]", "newlines": "\n", "zeros": "\0",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_a_bounded_time(name: str) -> None:
    """One line of a million characters."""
    piece = HOSTILE[name]
    text = (piece * (1_000_000 // len(piece) + 1))[:1_000_000]
    begin = time.perf_counter()
    scan(text)
    assert time.perf_counter() - begin < 5


def test_findings_are_bounded() -> None:
    text = "\n".join(TOKENS["GitHub token"]() for _ in range(5000))
    assert len(scan(text)) == secrets.MOST


def test_what_is_shown_paints_nothing() -> None:
    assert "\x1b" not in scan("sk_live_\x1b[31m")[0:1].__repr__()
    for one in scan("password = '\x1b[31m" + drawn(40) + "'\n" + TOKENS["npm token"]()):
        assert one.shown.isprintable()


def test_how_much_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Values drawn in the usual ways, given to a name for secrets."""
    ways = {
        "32 letters and digits": lambda: drawn(32),
        "40 letters and digits": lambda: drawn(40),
        "32 hexadecimal": lambda: drawn(32, "0123456789abcdef"),
        "64 hexadecimal": lambda: drawn(64, "0123456789abcdef"),
        "base64 of 32 bytes": lambda: base64.b64encode(DRAW.randbytes(32)).decode(),
    }
    for name, draw in ways.items():
        rate = sum(bool(scan(f'api_key = "{draw()}"')) for _ in range(300)) / 300
        with capsys.disabled():
            print(f"\nsecrets: {name}: {rate:.0%} found", end="")
        assert rate > 0.9, name


def test_how_often_it_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """On code that was published: the packages that are installed here."""
    files = sorted(Path(pytest.__file__).parents[1].rglob("*.*"))
    chosen = [
        file for file in files if file.suffix in (".py", ".js", ".json", ".toml", ".txt", ".sh", ".sql", ".cfg")
    ]
    chosen = chosen if FULL else chosen[:: max(1, len(chosen) // 800)]
    found, size, begin = [], 0, time.perf_counter()
    for file in chosen:
        data = file.read_bytes()
        size += len(data)
        found += [(file, one) for one in scan(data, path=file.as_posix().partition("site-packages/")[2])]
    seconds = time.perf_counter() - begin
    rate = len(found) / len(chosen) * 10_000
    with capsys.disabled():
        print(
            f"\nsecrets: {len(found)} in {len(chosen):,} files, {rate:.1f} in 10,000; {size / 1e6 / seconds:.0f} MB/s"
        )
    assert rate < 10, found
