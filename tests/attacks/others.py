"""Attacks on what is written and shown: secrets in logs and commits, floods of output, escape sequences for the
terminal of whoever looks. Each function returns (what it did without the layer, what it achieved, what was said)."""

import base64
import os
import secrets
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support import project as projects
from support.project import run

from agentq.core import secrets as known
from agentq.core.text import has_unsafe
from agentq.drivers.base import AgentTask, Limits
from agentq.drivers.command import CommandDriver

Tried = tuple[str, str, str]
PAINT = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\u2066[/red][bold]x[link=http://e]\r\x1b[1A"


def _agent(folder: Path, code: str, *, most: int = 1_000_000, hidden: tuple[str, ...] = ()) -> tuple[str, str]:
    """(transcript, how it ended) of an agent that runs `code`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompt").write_text("work")
    driver = CommandDriver((sys.executable, "-I", "-S", "-c", code), max_output=most)
    task = AgentTask(
        spec_id="alpha", stage="implement", run_id=f"attack-{os.getpid()}-{secrets.token_hex(4)}", workspace=folder,
        prompt_file=folder / "prompt", transcript=folder / "transcript", env={}, limits=Limits(20), secrets=hidden,
    )  # fmt: skip
    result = driver.run(task, stop=lambda: None, tick=lambda: None)
    return (folder / "transcript").read_text(errors="replace"), f"{result.outcome}: {result.summary}"


def provider_keys(folder: Path) -> Tried:
    """The keys with which the person's other programs think and land."""
    names = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK")
    value = secrets.token_hex(20)
    os.environ.update(dict.fromkeys(names, value))
    code = "import os; print(dict(os.environ))"
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    said, _ = _agent(folder, code)
    return (
        ("the keys are there" if value in plain else ""),
        ("the keys are there" if value in said else ""),
        "no key",
    )


def print_a_secret(folder: Path) -> Tried:
    """A secret that the agent has to have, printed plainly and in disguise."""
    value = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(40))
    code = (
        f"import base64, json, sys, urllib.parse as u\nv = {value!r}\nfor c in v: print(c, end='', flush=True)\n"
        "print(); print(json.dumps({'k': v})); print(u.quote('a/' + v)); print(base64.b64encode(('user:' + v).encode()).decode())"
    )
    encoded = base64.b64encode(f"user:{value}".encode()).decode()[8:40]
    found = []
    for name, hidden in (("bare", ()), ("hidden", known.known_values({"DB_PASSWORD": value}))):
        said, _ = _agent(folder / name, code, hidden=hidden)
        found.append("it is in the log" if value in said or encoded in said else "")
    return found[0], found[1], "***"


def flood(folder: Path) -> Tried:
    most = 500_000
    code = "import sys\nfor _ in range(60): sys.stdout.write('x' * 100_000); sys.stdout.flush()"
    free, _ = _agent(folder / "free", code, most=10**9)
    code = "import sys\nwhile True: sys.stdout.write('x' * 100_000); sys.stdout.flush()"
    said, ended = _agent(folder / "bound", code, most=most)
    harm = "" if ended.startswith("output-limit") and len(said) < 200 * most else "it went on"
    return f"{len(free):,} bytes in one log", harm, ended


def paint(folder: Path) -> Tried:
    """Wherever a word of the agent's is shown: its output, its commits, the names of its files."""
    project = projects.build(folder / "p")
    project.add("alpha", tests="none")
    project.script(
        "alpha", "implement",
        f"p = {PAINT!r}\nprint(p * 3)\nPath('alpha.txt').write_text('alpha')\n"
        "Path('evil' + p.replace('/', '')).write_text(p)\ncommit('work ' + p)\nimport sys; sys.exit(p + 'stopped')",
    )  # fmt: skip
    report = run(project, "alpha")
    views = (("status",), ("show", "alpha"), ("logs", "alpha"), ("diff", "alpha"))
    harm = ["report"] if any(has_unsafe(text.replace("\n", " ")) for text in (report.problem, report.hint)) else []
    for view in views:
        done = project.agentq(*view, rc=None)
        text = (done.stdout + done.stderr).replace("\n", " ").replace("\t", " ")
        if has_unsafe(text):
            harm.append(" ".join(view))
    logs = [
        path
        for path in project.state.rglob("*")
        if path.is_file() and "\x1b[2J" in path.read_text(errors="replace")
    ]
    return ("its log holds them" if logs else ""), ("shown by " + ", ".join(harm) if harm else ""), report.problem


def _commit(folder: Path, code: str, value: str, wanted: str) -> Tried:
    """A run whose agent commits `value`; what is in the origin afterwards, and what the person is told."""
    project = projects.build(folder / "p")
    project.add("alpha", tests="none")
    project.script("alpha", "implement", f"value = {value!r}\n{code}; commit()")
    report = run(project, "alpha")
    found = (
        [] if report.ended == "attention" and wanted in report.problem else [f"{report.ended}: {report.problem}"]
    )
    pushed = project.git("log", "--all", "-p", "--text", cwd=project.hub) + project.git(
        "log", "--all", "--raw", cwd=project.hub
    )
    found += ["it is in the origin"] if value in pushed.replace("\0", "") else []
    told = project.agentq("show", "alpha").stdout + report.problem + str(project.queue)
    found += ["it is shown"] if value in told else []
    return "an honest agent lands", "; ".join(found), report.problem


VALUE = "ghp_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(36))


def commit_a_secret(folder: Path) -> Tried:
    code = 'Path("alpha.txt").write_text("a = 1\\ntoken = " + repr(value))'
    return _commit(folder, code, VALUE, "GitHub token in alpha.txt:2")


def commit_a_secret_in_utf16(folder: Path) -> Tried:
    code = 'Path("alpha.txt").write_text("a = 1\\n" + value, "utf-16")'
    return _commit(folder, code, VALUE, "GitHub token in alpha.txt:2")


def a_secret_as_a_file_name(folder: Path) -> Tried:
    return _commit(folder, 'Path(value).mkdir(); Path(value, "a").write_text("x")', VALUE, "in the name of a file")


def an_own_secret_with_a_comment(folder: Path) -> Tried:
    """The comment that allows an example does not allow what this host knows to be a secret."""
    own = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(30))
    os.environ["DB_PASSWORD"] = own
    code = 'import base64; Path("alpha.txt").write_text("# agentq: allow-secret\\nx=" + base64.b64encode(b"ab" + value.encode()).decode())'
    return _commit(folder, code, own, "known secret in alpha.txt:2")


def a_secret_in_a_commit_message(folder: Path) -> Tried:
    """What lands is one commit whose message is made from the spec."""
    project = projects.build(folder / "p")
    project.add("alpha", tests="none")
    project.script("alpha", "implement", f'Path("alpha.txt").write_text("alpha"); commit({VALUE!r})')
    report = run(project, "alpha")
    pushed = VALUE in project.git("log", "--all", cwd=project.hub)
    return "an honest agent lands", "it is in the origin" if pushed else "", report.ended


OTHERS: tuple[tuple[str, str, Callable[[Path], Tried]], ...] = (
    ("read provider keys from its environment", "process: allowed variables", provider_keys),
    ("print a secret it has to have", "capture: known values hidden", print_a_secret),
    ("flood the output", "process: output limit", flood),
    ("paint the terminal", "text: cleaned when shown", paint),
    ("commit a secret", "leaks: scan of the change", commit_a_secret),
    ("commit a secret in UTF-16", "leaks: scan of the change", commit_a_secret_in_utf16),
    ("a secret as a file name", "leaks: scan of the change", a_secret_as_a_file_name),
    ("a secret in a commit message", "landing: a message of its own", a_secret_in_a_commit_message),
    ("a secret of this host, allowed by a comment", "leaks: known values", an_own_secret_with_a_comment),
)
