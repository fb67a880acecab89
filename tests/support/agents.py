"""The real agent binaries for tests, at pinned versions, in a cache folder outside the repository.

    python tests/support/agents.py      installs what is missing there (`make test-agents`)

The folder is AGENTQ_TEST_AGENTS, or `.cache/agentq-test-agents` in the home folder of the password database: tests
change HOME. Where a binary is missing its tests are skipped; under CI=true they fail.
"""

import fcntl
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = {"claude": "2.1.330", "codex": "0.169.0"}
_NPM = {"claude": "@anthropic-ai/claude-code", "codex": "@openai/codex"}
_WHEEL = "claude-agent-sdk==0.2.187"  # it carries this claude
_BUNDLED = "claude_agent_sdk/_bundled/claude"
_LIMIT = 600  # s for an installation: 600 MB


def folder() -> Path:
    """Asked when this module is imported: before a test changes the environment."""
    return Path(
        os.environ.get("AGENTQ_TEST_AGENTS") or f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache/agentq-test-agents"
    )


FOLDER = folder()
IN_CI = os.environ.get("CI", "").lower() == "true"


def claude() -> Path:
    """The binary; skips the test (fails it in CI) where there is none."""
    return _need("claude")


def codex() -> Path:
    return _need("codex")


def find(name: str) -> Path | None:
    """The binary that `install` made, None where there is none."""
    places = (FOLDER / "bin" / name, FOLDER / "node_modules" / ".bin" / name)
    return next((place for place in places if os.access(place, os.X_OK)), None)


def _need(name: str) -> Path:
    import pytest

    if found := find(name):
        return found
    why = f"the real {name} is not in {FOLDER}: run 'make test-agents'"
    raise pytest.fail.Exception(why) if IN_CI else pytest.skip.Exception(why)


def version(program: Path) -> str:
    """The first number that `--version` prints, '' when it does not start."""
    done = subprocess.run(
        [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    words = [word for word in done.stdout.split() if word[0].isdigit()]
    return words[0] if done.returncode == 0 and words else ""


def missing() -> list[str]:
    return [name for name, wanted in VERSIONS.items() if not (found := find(name)) or version(found) != wanted]


def install() -> int:
    """Install what is missing; the exit status. Two at a time wait for each other."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = missing()
        if wanted:
            print(
                f"installing {', '.join(f'{name} {VERSIONS[name]}' for name in wanted)} into {FOLDER} …",
                flush=True,
            )
            if shutil.which("npm"):
                _by_npm(wanted)
            if "claude" in missing():
                _by_wheel()
        left = missing()
    for name, wanted_version in VERSIONS.items():
        if name not in left:
            print(f"{name} {wanted_version}: {find(name)}")
        else:
            why = "" if shutil.which("npm") else " (npm is missing)"
            print(f"{name} {wanted_version} was NOT installed{why}: its tests do not run", file=sys.stderr)
    return 1 if left else 0


def _by_npm(names: list[str]) -> None:
    packages = [f"{_NPM[name]}@{VERSIONS[name]}" for name in names]
    quiet = ("--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--loglevel=error")
    kept = [f"{_NPM[name]}@{VERSIONS[name]}" for name in VERSIONS if name not in names]
    # What is not named would be taken away.
    if _run(["npm", "install", *quiet, "--prefix", str(FOLDER), *packages, *kept]):
        for name in names:
            (FOLDER / "bin" / name).unlink(missing_ok=True)


def _by_wheel() -> None:
    """Without npm: claude out of a wheel. There is none of codex."""
    target, link = FOLDER / "wheel", FOLDER / "bin" / "claude"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--upgrade",
    ]
    if _run([*pip, "--target", str(target), _WHEEL]):
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target / _BUNDLED)


def _run(command: list[str]) -> bool:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=_LIMIT, check=False)
    if done.returncode:
        print(f"{command[0]} failed with status {done.returncode}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(install())
