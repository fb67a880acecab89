"""Conflicts as real merges: three trees in a bare repository, merged by git, resolved as a flow does it."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

from agentq.core import attributes
from agentq.trunk.git import Git
from agentq.trunk.merge import Merged, disputes, merge
from agentq.trunk.resolve.base import Answer, Dispute, Rerun, Resolved, Situation, Stopped
from agentq.trunk.resolve.rerun import carry_out
from agentq.trunk.resolve.table import decide

File = str | bytes | tuple[str, str]  # content, or (mode, content); a submodule is ("160000", sha)
Files = Mapping[str, File]
Want = Mapping[str, str | bytes | Callable[[bytes], bool] | None]


@dataclass(frozen=True)
class Case:
    """`want`: the files of the right result (None: gone), or None where a person must decide."""

    kind: str
    name: str
    base: Files
    trunk: Files
    spec: Files
    want: Want | None = None
    situation: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    verdict: str  # correct, stopped, wrong
    answers: list[Answer]
    files: dict[str, bytes]
    conflicts: list[str]

    @property
    def why(self) -> str:
        return "; ".join(f"{one.path} ({one.rule}): {one.why}" for one in self.answers if isinstance(one, Stopped))


def text(value: str) -> str:
    return dedent(value).removeprefix("\n")


def case(
    kind: str, name: str, path: str, base: str, trunk: str, spec: str, want: str | None = None, **more: Any
) -> Case:
    """A case about one file."""
    b, t, s = ({path: text(one)} for one in (base, trunk, spec))
    return Case(kind, name, b, t, s, None if want is None else {path: text(want)}, more)


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "-q", "--bare", str(folder / "r.git")], check=True)
        self.git = Git(folder / "r.git")
        self.count = 0

    def commits(self, one: Case) -> list[str]:
        """Base, and on it trunk and spec."""
        self.count += 1
        stream = [_commit(mark, files) for mark, files in ((1, one.base), (2, one.trunk), (3, one.spec))]
        marks = self.folder / "marks"
        self.git.ask("fast-import", "--quiet", "--force", f"--export-marks={marks}", stdin=b"".join(stream))
        return [line.split(" ")[1] for line in sorted(marks.read_text().splitlines())]

    def merged(self, trunk: str, spec: str, files: Files) -> Merged:
        texts = {p: c.encode() for p, c in files.items() if p.endswith(attributes.NAME) and isinstance(c, str)}
        path = self.folder / "attributes"
        path.write_bytes(attributes.compiled(texts))
        return merge(self.git, path, trunk, spec)

    def asked(self, one: Case) -> tuple[Merged, list[Dispute], Situation]:
        _, trunk, spec = self.commits(one)
        merged = self.merged(trunk, spec, one.trunk)
        situation = Situation(**one.situation)
        return merged, disputes(self.git, merged, trunk, spec, situation), situation

    def files(self, tree: str) -> dict[str, bytes]:
        lines = [line.partition("\t") for line in self.git("ls-tree", "-r", "-z", tree).fields]
        names = {path: meta.split(" ")[2] for meta, _, path in lines if meta.split(" ")[1] == "blob"}
        asked = "".join(f"{sha}\n" for sha in names.values()).encode()
        out = self.git.ask("cat-file", "--batch", stdin=asked).stdout if names else b""
        found = {}
        for path in names:
            head, _, rest = out.partition(b"\n")
            size = int(head.split(b" ")[2])
            found[path], out = rest[:size], rest[size + 1 :]
        return found

    def replay(self, one: Case, checkout: Path) -> Outcome:
        merged, asked, situation = self.asked(one)
        answers = decide(asked, situation)
        files = self.files(merged.tree)
        reruns = [answer for answer in answers if isinstance(answer, Rerun)]
        _put(files, answers)
        if reruns and not any(isinstance(answer, Stopped) for answer in answers):
            write(checkout, files)
            done = carry_out(reruns, checkout, lambda command: run(command, checkout))
            _put(files, done)
            answers = [*answers, *(answer for answer in done if isinstance(answer, Stopped))]
        answered = {answer.path for answer in answers}
        conflicts = [conflict.path for conflict in merged.conflicts]
        assert set(conflicts) <= answered, "every conflict has an answer"
        return Outcome(_verdict(one, answers, files), answers, files, conflicts)


def _commit(mark: int, files: Files) -> bytes:
    ref = f"commit refs/heads/c{mark}\nmark :{mark}\ncommitter T <t@example.invalid> {mark} +0000\ndata 1\nx\n"
    parts = [ref.encode(), b"from :1\n" if mark > 1 else b"", b"deleteall\n"]
    for path, file in files.items():
        mode, content = file if isinstance(file, tuple) else ("100644", file)
        data = content.encode() if isinstance(content, str) else content
        if mode == "160000":
            parts.append(f"M {mode} {content} {path}\n".encode())
        else:
            parts.append(f"M {mode} inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
    return b"".join(parts)


def _put(files: dict[str, bytes], answers: Sequence[Answer]) -> None:
    for answer in answers:
        if isinstance(answer, Rerun):
            files[answer.path] = answer.trunk
        elif isinstance(answer, Resolved) and answer.content is None:
            files.pop(answer.path, None)
        elif isinstance(answer, Resolved):
            files[answer.path] = answer.content or b""


def _verdict(one: Case, answers: Sequence[Answer], files: Mapping[str, bytes]) -> str:
    if any(isinstance(answer, Stopped) for answer in answers):
        return "correct" if one.want is None else "stopped"
    if one.want is None:
        return "wrong"
    for path, want in one.want.items():
        content = files.get(path)
        if callable(want):
            right = content is not None and want(content)
        else:
            right = content == (want.encode() if isinstance(want, str) else want)
        if not right:
            return "wrong"
    return "correct"


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def run(command: str, folder: Path) -> int:
    """As a flow runs it: by a shell at the top of the checkout. The tools reach no network."""
    home = folder.parent / "tool-home"
    home.mkdir(exist_ok=True)
    offline = {
        "UV_OFFLINE": "1", "UV_PYTHON": sys.executable, "UV_CACHE_DIR": str(home / "uv"), "UV_NO_CONFIG": "1",
        "npm_config_offline": "true", "npm_config_cache": str(home / "npm"), "npm_config_update_notifier": "false",
        "CARGO_NET_OFFLINE": "true", "YARN_CACHE_FOLDER": str(home / "yarn"), "POETRY_CACHE_DIR": str(home / "poetry"),
        "POETRY_VIRTUALENVS_CREATE": "false", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }  # fmt: skip
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env={**os.environ, **offline, "PATH": path}, capture_output=True,
        text=True, stdin=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        print(f"{command}: {done.returncode}\n{done.stdout[-800:]}{done.stderr[-800:]}")
    return done.returncode
