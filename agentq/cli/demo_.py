"""`agentq demo`: the whole main job on a small real project, with prepared changes instead of a model."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agentq import live, render, wiring
from agentq.core.picture import gantt_text
from agentq.databases.contents import Contents
from agentq.errors import ExitCode
from agentq.trunk.git import Git

_MACHINE = """# Small numbers, for the demo's replayed agents; 'agentq machine setup' computes real ones.
name = "demo"
instances = {instances}
agent_gb = 0.1
reserve_gb = 0
workspaces = "{workspaces}"
"""


def run_demo(folder: str | None, at_once: int) -> int:
    """Build the project, run its twelve specs, show what came of it. Returns the exit code."""
    from agentq.demo import schema
    from agentq.demo.project import build

    root = Path(folder).resolve() if folder else Path(tempfile.mkdtemp(prefix="agentq-demo-"))
    on_path = shutil.which("agentq") is not None
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    demo = build(root)
    (demo.checkout / ".machine").write_text(
        _MACHINE.format(instances=at_once, workspaces=root / "workspaces"), encoding="utf-8"
    )
    print(f"A notes service over SQLite, its origin and {len(demo.specs)} specs, made in")
    print(f"  {root}")
    print(f"{at_once} agents at once replay prepared changes; no model is asked. All else is real:")
    print("workspaces, database branches, red tests, proofs, migrations, rebases and pushes.\n")
    before = schema.read(demo.dev_url)
    base = wiring.base(demo.checkout)
    stops = wiring.Stops()
    stops.listen()
    started = time.monotonic()
    with live.work_view(base, []) as view:
        report = wiring.work(base, at_once, [], stops, view)
    seconds = time.monotonic() - started
    landed = len(base.store.read().queue.completed)
    if landed < len(demo.specs):
        render.work_report(report, landed)
        print(f"{landed} of {len(demo.specs)} specs landed. To go on:\n")
        print(f"  cd {demo.checkout}\n  agentq work\n\nTo remove the demo:\n\n  rm -r {root}")
        return ExitCode.INTERRUPTED if report.interrupted else ExitCode.VERIFY
    _show(base, demo, seconds)
    good = prove_landed(base, demo, before)
    _next_steps(demo.checkout, root, on_path)
    return ExitCode.OK if good else ExitCode.VERIFY


def _show(base: Any, demo: Any, seconds: float) -> None:
    from agentq.flows.timeline import timeline

    queue = base.store.read().queue
    print(f"{len(queue.completed)} specs landed in {seconds:.0f} s, what each stage took:\n")
    render.landed(queue.completed)
    rows = timeline(base.runs, [entry.id for entry in queue.completed])
    if rows:
        print("\nWho worked when (# is the instance on this machine):\n")
        print(gantt_text(rows, 80))
    print("The trunk, one commit a spec, oldest first:\n")
    form = "--format=  %h  %<(46,trunc)%s  %(trailers:key=Agentq-Spec,valueonly,separator=%x20)"
    print(Git(demo.hub)("log", "--reverse", form, "main").text)


def prove_landed(base: Any, demo: Any, before: Contents) -> bool:
    """Show that what landed is whole, in a fresh clone of the origin: its migrations and its own test suite.
    `before`: what dev held before the specs."""
    from agentq.demo import schema

    fresh, empty = demo.folder / "landed", f"sqlite:///{demo.folder / 'from-nothing.db'}"
    Git(demo.folder)("clone", "--quiet", "--branch", "main", str(demo.hub), str(fresh))
    events = [event for spec in demo.specs for event in base.runs.events(spec)]
    judged = schema.judge(fresh, empty, demo.dev_url, before, events)
    print("\nThe landed project's migrations, in a fresh clone of the origin:\n")
    print("\n".join(f"  {line}" for line in judged.lines))
    return _suite(fresh) and judged.good


def _suite(fresh: Path) -> bool:
    """Run the landed project's own suite once more, on a database of its own."""
    print("\nIts own test suite there:\n")
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "tools/run_tests.py"], cwd=fresh, env=env, capture_output=True, text=True, check=False
    )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if any(map(str.isalnum, line))]
    print("\n".join(f"  {line}" for line in lines[-2:]))
    return done.returncode == 0


def _next_steps(checkout: Path, root: Path, on_path: bool) -> None:
    path = "" if on_path else f'  export PATH="{Path(sys.executable).parent}:$PATH"\n'
    print(f"""
Look around:

{path}  cd {checkout}
  agentq status                 what landed, and when
  agentq show search            the spec whose first attempt failed its tests
  agentq logs search            what its last command printed
  agentq diff tags              what one spec changed
  agentq graph --completed      the dependencies

In a repository of your own: agentq init. To remove the demo:

  rm -r {root}""")
