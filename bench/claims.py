"""Claims a second of a shared queue, by clones on one host; beside it bare pushes that race for the same branch.

A claim gives back the spec of the last one and leases the other: one change of the queue, in the branch when it is
counted. The bare processes do what everybody would write first: fetch, commit-tree, push --force-with-lease, and
again when another was faster. Their commits change no file, which is less than a claim does.

`python -m bench.claims KIND HUB FOLDER CLONES SECONDS` is one measurement, in a program that has one thread
when it forks; it prints JSON like bench.contend.
"""

import json
import multiprocessing
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from bench import ROOT
from bench.contend import _answer
from bench.report import Row, ratio

CLONES = (1, 4, 8, 16)
SECONDS, ROUNDS = 4.0, 2
JUDGED, TARGET = 8, 0.33  # at least three times the bare pushes
BRANCH = "agentq"


def section(
    folder: Path, clones: Sequence[int] = CLONES, seconds: float = SECONDS, rounds: int = ROUNDS
) -> list[Row]:
    rows = []
    for count in clones:
        ours, bare = [], []
        for number in range(rounds):
            ours.append(_measured("shared", folder / f"shared-{count}-{number}", count, seconds))
            bare.append(_measured("bare", folder / f"bare-{count}-{number}", count, seconds))
        ours_rates, bare_rates = [_rate(one) for one in ours], [_rate(one) for one in bare]
        slowest = max(answer[1] for one in ours for answer in one)
        details = (
            f"{median(bare_rates):.1f} a second by bare pushes that race; the longest claim took"
            f" {slowest:.2f} s, the longest bare push {max(answer[1] for one in bare for answer in one):.2f} s",
        )
        raw = {"a_second": ours_rates, "bare_a_second": bare_rates}
        name = f"{count} clone{'s' if count > 1 else ''}"
        rows.append(Row(name, median(ours_rates), unit="a second", details=details, raw=raw))
        if count == JUDGED:
            rows.append(Row(f"{name}: bare ÷ agentq", ratio(bare_rates, ours_rates), TARGET, raw=raw))
    return rows


def _rate(answers: list[Any]) -> float:
    began, ended = min(one[2] for one in answers), max(one[3] for one in answers)
    return float(sum(one[0] for one in answers) / (ended - began))


def _measured(kind: str, folder: Path, count: int, seconds: float) -> list[Any]:
    from support.shared import make_hub

    folder.mkdir(parents=True)
    hub = make_hub(folder, 2 * count)
    command = [sys.executable, "-m", "bench.claims", kind, str(hub), str(folder), str(count), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=seconds + 200)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def shared(hub: Path, folder: Path, me: int) -> Callable[[], None]:
    """Claim, by a clone of its own with the host's one home."""
    from agentq.core import queue as transitions
    from agentq.store.copy import WorkingCopy
    from agentq.store.shared import SharedStore
    from agentq.trunk.branch import QueueBranch

    host, clone = folder / "home", folder / f"clone{me}"
    remote = QueueBranch(host / "queue.git", str(hub), BRANCH, {}, 60)
    remote.ensure()
    store = SharedStore(remote, host, WorkingCopy(clone / "agents" / "queue.json", clone / "state"))
    store.read()
    who = transitions.Claim(f"m{me}", 1, datetime.now(UTC), timedelta(hours=1))
    held: list[tuple[str, int]] = []

    def claim() -> None:
        spec = f"s{2 * me + (held[-1][0] == f's{2 * me}' if held else 0)}"
        last = held[-1] if held else None

        def change(queue: Any) -> Any:
            return transitions.claim(transitions.give_back(queue, *last) if last else queue, spec, who)

        held.append((spec, transitions.running(store.update(change), spec).lease.epoch))

    return claim


def bare(hub: Path, folder: Path, me: int) -> Callable[[], None]:
    """Push one commit, however often it takes."""
    clone = folder / f"clone{me}"

    def git(*args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["git", *args], cwd=clone, capture_output=True, text=True, check=False)

    subprocess.run(["git", "clone", "-q", "--bare", str(hub), str(clone)], check=True)
    git("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    tracked = f"refs/remotes/origin/{BRANCH}"

    def push() -> None:
        while True:
            git("fetch", "-q", "origin")
            made = git("commit-tree", f"{tracked}^{{tree}}", "-p", tracked, "-m", uuid.uuid4().hex).stdout.strip()
            if git("push", "-q", f"--force-with-lease={BRANCH}", "origin", f"{made}:{BRANCH}").returncode == 0:
                return

    return push


def work(kind: str, hub: Path, folder: Path, me: int, seconds: float, ready: Any, answers: Any) -> None:
    step = {"shared": shared, "bare": bare}[kind](hub, folder, me)
    ready.wait()
    done, longest, start = 0, 0.0, time.monotonic()
    while (began := time.monotonic()) < start + seconds:
        step()
        done += 1
        longest = max(longest, time.monotonic() - began)
    answers.put((done, longest, start, time.monotonic()))


def main() -> None:
    kind, hub, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    count, seconds = int(sys.argv[4]), float(sys.argv[5])
    context = multiprocessing.get_context("fork")
    ready, answers = context.Barrier(count), context.Queue()
    children = [
        context.Process(target=work, args=(kind, hub, folder, n, seconds, ready, answers)) for n in range(count)
    ]
    for child in children:
        child.start()
    found = [_answer(answers, children) for _ in children]
    for child in children:
        child.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
