"""What is a secret: by the name of the variable that holds it, or by its own look.

`known_values` is for hiding what this host knows; `scan` is for finding what an agent is about to publish. Both
prefer silence to noise: a value that could be an ordinary word is left alone, because a rule that cries wolf is
switched off. Every step is bounded: the text may be hostile.
"""

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote

from agentq.core import redact
from agentq.core.text import clean

SHORTEST = redact.SHORTEST
ALLOW = "agentq: allow-secret"  # on the line, or on the one before it
MOST = 100  # findings in one text; more tell nothing more
_HIDDEN_LINE = 20  # characters of a line of a secret of several lines that is hidden on its own

# ---------------------------------------------------------------- what this host knows

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API|ACCESS|AUTH|PRIVATE|SECRET|SIGNING|ENCRYPTION|MASTER|SERVICE|DEPLOY)?_?"
    r"(?:KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASS|PASSPHRASE|PASSCODE|CREDENTIALS?|CREDS|AUTH|COOKIE|DSN|PAT)"
    r"(?:_?\d+|_JSON|_BASE64|_B64|_PEM|_VALUE)?$"
    r"|(?:APIKEY|SECRETKEY|ACCESSKEY|AUTHTOKEN|PGPASSWORD|SECRET|PASSWORD)",
    re.IGNORECASE,
)
_PROVIDER_NAME = re.compile(
    r"^(?:ANTHROPIC|OPENAI|AWS|GITHUB|GITLAB|GEMINI|GOOGLE|AZURE|OPENROUTER|MISTRAL|GROQ|XAI|DEEPSEEK|COHERE|HF"
    r"|HUGGINGFACE|CLAUDE|CODEX|NEON|SUPABASE|STRIPE|SLACK|NPM|PYPI|DOCKER|CLOUDFLARE|VERCEL|SENTRY|DATADOG|DD)_",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z]{1,20}|[A-Z]{1,20}|[A-Z][a-z]{1,20}")
_PLAIN = re.compile(r"(?i)true|false|none|null|yes|no|disabled|enabled|default|[\d.,:-]{1,15}")
_PATH = re.compile(r"(?:~|\.{1,2})?/[\w.@+~ -]*(?:/[\w.@+~ -]*)*|[A-Za-z]:\\.*")


def is_secret(name: str, value: str) -> bool:
    """Whether an environment variable holds a secret: its name says so, and its value is no ordinary word."""
    if len(value) < SHORTEST or _ordinary(value):
        return False
    if _SECRET_NAME.search(name):
        return True
    return bool(_PROVIDER_NAME.match(name)) and len(value) >= 16 and _random(value)


def known_values(env: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets among environment variables, and the passwords in their URLs, in every form in which programs
    write them; longest first."""
    values = [value for name, value in env.items() if is_secret(name, value)]
    forms = {form for value in values for form in written(value)} | set(redact.passwords(env.values()))
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=lambda form: (-len(form), form)))


def written(value: str) -> set[str]:
    """The forms in which `value` gets written: plain, in a URL, in JSON, in base64 (also in the middle of a longer
    text, where two characters at each end are lost), and the lines of a longer one."""
    lines = [line for line in value.splitlines() if len(line) >= _HIDDEN_LINE and not line.startswith("-----")]
    forms = {value, value.strip(), *(lines if "\n" in value else ())}
    forms |= {quote(value, safe=""), quote(value), quote_plus(value)}
    forms |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    data = value.encode("utf-8", "surrogateescape")
    for shift, lost in ((0, 0), (1, 2), (2, 3)):
        whole = data[: (len(data) + shift) // 3 * 3 - shift]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(b"\0" * shift + whole).decode()[lost:])
    return {form for form in forms if len(form) >= SHORTEST}


def _ordinary(value: str) -> bool:
    """A word, a number, a path, an address: hiding it would spoil what is shown, and tell nothing."""
    word = _WORD.fullmatch(value) and len(value) < 16
    return bool(word or _PLAIN.fullmatch(value) or _PATH.fullmatch(value) or re.match(r"\w+://", value))


# ---------------------------------------------------------------- what looks like one


@dataclass(frozen=True, slots=True)
class Found:
    """A credential in a text. line: 1-based. shown: what may be shown of it. sure: it has a form that only such
    credentials have; otherwise it is a random value that is given to a name for secrets."""

    kind: str
    line: int
    shown: str
    sure: bool = True


@dataclass(frozen=True, slots=True)
class _Rule:
    """needles: one of these texts is there, or the pattern is not tried. The value is group 1."""

    kind: str
    needles: tuple[str, ...]
    pattern: re.Pattern[str]


def _rule(kind: str, needles: str, pattern: str) -> _Rule:
    # Not in the middle of a longer word: hashes and encoded data hold every short text there is.
    return _Rule(kind, tuple(needles.split()), re.compile(rf"(?<![A-Za-z0-9_])({pattern})(?![A-Za-z0-9])"))


_RULES = (
    _rule("AWS access key", "AKIA ASIA", r"(?:AKIA|ASIA)[A-Z2-7]{16}"),
    _rule("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36,255}"),
    _rule("GitHub token", "github_pat_", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _rule("GitLab token", "glpat- gldt- glrt- glptt- glsoat-", r"gl(?:pat|dt|rt|ptt|soat)-[\w-]{20,100}"),
    _rule("Slack token", "xox", r"xox[abeoprs]-[A-Za-z0-9-]{20,250}"),
    _rule("Slack token", "xapp-", r"xapp-\d-[A-Z0-9]{5,20}-\d{5,20}-[a-f0-9]{40,80}"),
    _rule("Slack webhook", "hooks.slack.com", r"https://hooks\.slack\.com/services/T\w{6,14}/B\w{6,14}/\w{20,30}"),
    _rule("Discord webhook", "/api/webhooks/", r"https://discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,80}"),
    _rule("Stripe key", "k_live_", r"[sr]k_live_[A-Za-z0-9]{20,247}"),
    _rule("Stripe webhook secret", "whsec_", r"whsec_[A-Za-z0-9]{32,64}"),
    _rule("Anthropic key", "sk-ant-", r"sk-ant-[a-z]{3,6}\d\d-[\w-]{40,200}"),
    _rule("OpenAI key", "sk-proj- sk-svcacct- sk-admin-", r"sk-(?:proj|svcacct|admin)-[\w-]{40,250}"),
    _rule("OpenAI key", "T3BlbkFJ", r"sk-[\w-]{20,80}T3BlbkFJ[\w-]{20,80}"),
    _rule("OpenRouter key", "sk-or-v1-", r"sk-or-v1-[0-9a-f]{64}"),
    _rule("Google API key", "AIza", r"AIza[\w-]{35}"),
    _rule("Google OAuth secret", "GOCSPX-", r"GOCSPX-[\w-]{28}"),
    _rule("Google OAuth token", "ya29.", r"ya29\.[\w-]{60,500}"),
    _rule("npm token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _rule("PyPI token", "pypi-AgE", r"pypi-AgE[\w-]{60,500}"),
    _rule("RubyGems key", "rubygems_", r"rubygems_[a-f0-9]{48}"),
    _rule("Docker Hub token", "dckr_pat_", r"dckr_pat_[\w-]{27}"),
    _rule("SendGrid key", "SG.", r"SG\.[\w-]{22}\.[\w-]{43}"),
    _rule("Telegram token", ":AA", r"\d{8,10}:AA[\w-]{33}"),
    _rule("DigitalOcean token", "_v1_", r"do[opr]_v1_[a-f0-9]{64}"),
    _rule("Hugging Face token", "hf_", r"hf_[A-Za-z0-9]{34}"),
    _rule("Databricks token", "dapi", r"dapi[a-f0-9]{32}"),
    _rule("Shopify token", "shp", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _rule("Linear key", "lin_api_", r"lin_api_[A-Za-z0-9]{40}"),
    _rule("Groq key", "gsk_", r"gsk_[A-Za-z0-9]{52}"),
    _rule("Neon key", "napi_", r"napi_[a-z0-9]{60,70}"),
    _rule("Supabase token", "sbp_", r"sbp_[a-f0-9]{40}"),
    _rule("Vault token", "hvs.", r"hvs\.[\w-]{90,200}"),
    _rule("age key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    _rule("Azure storage key", "AccountKey=", r"AccountKey=[A-Za-z0-9+/]{86}"),
    _rule("PlanetScale password", "pscale_", r"pscale_(?:tkn|pw|oauth)_[\w.-]{32,64}"),
    _rule("Tailscale key", "tskey-", r"tskey-(?:auth|api|client)-\w{9,20}-\w{20,50}"),
    _rule("Grafana token", "glsa_", r"glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}"),
)  # fmt: skip
# A header and enough of what follows it: a description of one is no key. `\n` may be written out.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[\s\"'+,]|\\n|\\r){1,60}(?:[\w-]{1,30}: [^\n\\]{0,200}(?:[\s\"'+,]|\\n|\\r){1,60}){0,5}"
    r"([A-Za-z0-9+/]{40})"
)
_JWT = re.compile(r"(?<![\w-])(eyJ[\w-]{10,2000}\.eyJ[\w-]{10,6000}\.[\w-]{20,1000})")
_JWT_CONTEXT = re.compile(r"(?i)secret|token|api_?key|auth|bearer|password|service_role|credential")
_JWT_REACH = 80  # characters before it in which the context is looked for
_URL_LOGIN = re.compile(r"://[^\s:/@\"'<>,]{0,80}:([^\s:/@\"'<>,]{8,200})@([\w.-]{1,200})")
_OWN_HOSTS = re.compile(
    r"(?i)localhost|127\.|0\.0\.0\.0|host$|db$|postgres$|mysql$|redis$|server$|.*(?:example|\.test$|\.local$|\.invalid$)"
)
_SECRET_WORDS = ("passw", "passphrase", "secret", "token", "credential", "key")
_KEY = re.compile(r"(?i)(?:api|access|auth|signing|encryption|private|master|account)[_-]?key\Z")
# From the end of such a word: the rest of the name, what assigns, the value.
_ASSIGNED = re.compile(
    r"""[\w.-]{0,40}["'\]]{0,2}[ \t]{0,8}(?::=|=>|[:=])[ \t]{0,8}(?:[rbu]?(["'`])|(?=[A-Za-z0-9+/]))"""
    r"""([A-Za-z0-9+/=_.~!@#$%^&*-]{16,200})"""
)
_ENV_LINE = re.compile(r"(?:export[ \t]{1,4})?[A-Z][A-Z0-9_]{0,60}\Z")
_OTHER_NAME = re.compile(
    r"(?i)public|hash|sha\d|checksum|digest|fingerprint|csrf|xsrf|authenticity|_id\b|_?type\b|url|file|path|name\b"
)
_EXAMPLE = re.compile(
    r"(?i)example|dummy|fake|sample|placeholder|change_?me|your[_-]|x{4}|\*{3}|\.{3}|redacted|insert|todo|foobar|test"
    r"|mock|0{5}|1{5}|a{5}|123456|abcdef(?!\d)|qwerty|deadbeef|lorem|not[_-]?a|secret[_-]?(?:key|token|value)|password"
)
_SAMPLE = re.compile(
    r"(?i)example|placeholder|redacted|x{6}|\*{3}|\.{3}|0{6}|1{6}|a{6}|1234567|abcdefg"
    r"|(?<![a-z0-9])(?:test|fake|dummy|mock|sample|your)(?![a-z0-9])"
)
_UUID = re.compile(r"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RUN = re.compile(r"[A-Za-z][a-z]{3,}|[A-Z]{5,}")
_NO_WORD = re.compile(r"(?i)[^aeiouy]{4}|[aeiouy]{4}|^[^aeiouy]+$|q[^u]|[jvx][^aeiouy]")
_HASHED = re.compile(r"\$|pbkdf2|argon2|scrypt|bcrypt|sha\d", re.IGNORECASE)
_LONG_LINE = 2000  # characters; no person wrote it
_UNSURE = frozenset({"secret value", "password in a URL"})
_SAMPLES = re.compile(
    r"(?i)(?:^|/)(?:tests?|specs?|__tests__|testdata|fixtures?|mocks?|examples?|samples?|docs?|guides?)/"
    r"|(?:^|[/_.-])(?:test|spec|conftest|mock)s?[_.-][^/]*$|[_-]test\.\w+$|\.(?:md|rst|adoc|txt|lock)$"
    r"|(?:^|/)(?:package-lock\.json|pnpm-lock\.yaml|go\.sum)$|\.min\.\w+$"
)
_Match = tuple[str, int, str]


def scan(data: str | bytes, known: Iterable[str] = (), *, path: str = "") -> list[Found]:
    """Credentials in a text, in the order of their lines; at most MOST. known: values that are secret here; no
    comment allows those. path: where `shows_samples`, only those that are sure."""
    return _report(data, known, "", path)


def scan_added(old: bytes | None, new: bytes, known: Iterable[str] = (), *, path: str = "") -> list[Found]:
    """Credentials in `new` that are not in `old`; None: there was no file."""
    return _report(new, known, _text(old) if old else "", path)


def shows_samples(path: str) -> bool:
    """Whether a file is a test, documentation or a lock file: values in it are made up, or hashes."""
    return bool(_SAMPLES.search(path))


def _report(data: str | bytes, known: Iterable[str], before: str, path: str) -> list[Found]:
    text, samples = _text(data), shows_samples(path)
    found: list[Found] = []
    line, place = 1, 0
    for kind, start, value in sorted(_matches(text, tuple(known)), key=lambda match: match[1]):
        line, place = line + text.count("\n", place, start), start
        allowed = kind != "known secret" and _allowed(text, start)
        sure = kind not in _UNSURE
        if allowed or (samples and not sure) or (before and value in before):
            continue
        entry = Found(kind, line, _masked(kind, value), sure)
        if entry not in found:
            found.append(entry)
        if len(found) >= MOST:
            break
    return found


def _text(data: str | bytes) -> str:
    if isinstance(data, str):
        return data
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def _matches(text: str, known: tuple[str, ...]) -> Iterator[_Match]:
    """(kind, place, value) of all; values may overlap, but a generic one is not told where a special one is."""
    special = [*_known(text, known), *_special(text)]
    yield from special
    taken = [value for _, _, value in special]
    for match in _generic(text):
        if not any(match[2] in value or value in match[2] for value in taken):
            yield match


def _known(text: str, known: tuple[str, ...]) -> Iterator[_Match]:
    for value in known:
        if (place := text.find(value)) >= 0:
            yield "known secret", place, value


def _special(text: str) -> Iterator[_Match]:
    for rule in _RULES:
        if any(needle in text for needle in rule.needles):
            for match in _few(rule.pattern, text):
                if _used(match[1]):
                    yield rule.kind, match.start(1), match[1]
    if "PRIVATE KEY" in text:
        for match in _few(_PRIVATE_KEY, text):
            if _used(match[1]):
                yield "private key", match.start(), match[1]
    if "eyJ" in text:
        for match in _few(_JWT, text):
            context = text[max(0, match.start() - _JWT_REACH) : match.start()].rpartition("\n")[2]
            if _JWT_CONTEXT.search(context) and not _sample_jwt(match[1]):
                yield "JWT", match.start(1), match[1]


def _used(value: str) -> bool:
    """Whether a value of the right form is more than an example of the form."""
    return len(set(value)) >= 10 and not _SAMPLE.search(value)


def _few(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for count, match in enumerate(pattern.finditer(text)):
        if count >= 10 * MOST:
            return
        yield match


def _generic(text: str) -> Iterator[_Match]:
    """A random value that is given to a name which says that it is secret, and passwords in URLs."""
    if "\0" in text[:8000]:
        return
    for place in _places(text, "://"):
        login = _URL_LOGIN.match(text, place)
        if login and not _OWN_HOSTS.match(login[2]) and _is_value(unquote(login[1])):
            yield "password in a URL", login.start(1), login[1]
    for word in _SECRET_WORDS:
        for form in (word, word.upper(), word.title()):
            yield from _assigned(text, form)


def _assigned(text: str, word: str) -> Iterator[_Match]:
    """What is given to names that contain `word`."""
    seen = 0
    for place in _places(text, word):
        end = place + len(word)
        if place < seen or (word.lower() == "key" and not _KEY.search(text, max(0, place - 12), end)):
            continue
        if given := _ASSIGNED.match(text, end):
            seen = given.end()
            if _is_value(given[2]) and _is_name(text, place, given):
                yield "secret value", given.start(2), given[2]


def _places(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + len(word))


def _is_name(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether what is assigned to is a name for secrets, and a person may have written the line."""
    if len(text) > _LONG_LINE and "\n" not in text[max(0, start - _LONG_LINE // 2) : start + _LONG_LINE // 2]:
        return False
    begin = text[max(0, start - 80) : start].rpartition("\n")[2]
    name = re.split(r"[^\w.-]", begin)[-1] + text[start : match.start(2)]
    if _OTHER_NAME.search(name):
        return False
    # Without quotes it is a value only in a file of settings; in code it is an expression.
    if match[1]:
        return True
    before = re.split(r"[=:]", begin + text[start : match.start(2)], maxsplit=1)[0]
    return bool(_ENV_LINE.fullmatch(before.strip())) and text[match.end(2) : match.end(2) + 1] in (
        "",
        "\n",
        "\r",
        " ",
    )


def _is_value(value: str) -> bool:
    return (
        _random(value) and not _EXAMPLE.search(value) and not _UUID.fullmatch(value) and not _HASHED.match(value)
    )


def _random(value: str) -> bool:
    """Whether a text looks drawn: letters and digits mixed, evenly spread, not made of words."""
    digits = sum(char.isdigit() for char in value)
    letters = sum(char.isalpha() for char in value)
    words = sum(len(run) for run in _RUN.findall(value) if not _NO_WORD.search(run))
    if digits < 2 or letters < 4 or 2 * words >= letters:
        return False
    return _varied(value)


def _varied(value: str) -> bool:
    """Whether its characters are spread as in a drawn text. 20 drawn characters of 64 have 4 bits each, words
    have 3."""
    sample = value[:256]
    counts = Counter(sample)
    bits = -sum(count / len(sample) * math.log2(count / len(sample)) for count in counts.values())
    alphabet = 16 if re.fullmatch(r"[0-9a-fA-F-]+", sample) else 64
    return bits >= 0.8 * math.log2(min(len(sample), alphabet))


def _sample_jwt(token: str) -> bool:
    """Whether it is the one that documentation shows."""
    body = token.split(".")[1]
    try:
        text = base64.urlsafe_b64decode(body[: len(body) // 4 * 4]).decode("utf-8", "replace")
    except ValueError:
        return False
    return "1234567890" in text or "John Doe" in text or "example" in text


def _allowed(text: str, start: int) -> bool:
    """Whether the line of `start`, or the one before it, says so. Of a very long line only what is near."""
    line = text.rfind("\n", 0, start) + 1
    before = text.rfind("\n", 0, max(line - 1, 0)) + 1
    end = text.find("\n", start)
    near = text[max(before, start - 1000) : min(end if end >= 0 else len(text), start + 10_000)]
    return ALLOW in near


def _masked(kind: str, value: str) -> str:
    """Enough to recognise it by, not enough to use it."""
    if kind == "private key":
        return "-----BEGIN … PRIVATE KEY-----"
    shown = 0 if kind == "known secret" else 4 if len(value) >= 16 else 2
    return clean(f"{value[:shown]}… ({len(value)} characters)")
