"""Claims raced by many processes, and processes killed in the middle: one winner each, nothing lost, nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import share_worker, shared
from support.queues import write_queue
from support.shared import times
from support.size import FULL

from agentq.trunk.branch import QueueBranch

WORKER = share_worker.__file__


def _start(*args: object) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, WORKER, *map(str, args)], stdout=subprocess.PIPE, text=True)


def _answers(workers: "list[subprocess.Popen[str]]") -> list[dict[str, Any]]:
    found = [worker.communicate(timeout=600)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    return [json.loads(text) for text in found]


def test_claim_races_of_16_processes_on_8_hosts(tmp_path: Path) -> None:
    """Each spec has one winner, under an epoch of its own. 640 races; all 2,000 take 30 s on 2 cores."""
    count = 125 if FULL else 40
    hub = shared.make_hub(tmp_path, count)
    workers = [_start("claim", hub, tmp_path / f"h{n % 8}", f"m{n}", count) for n in range(16)]
    answers = _answers(workers)
    won = [tuple(one) for answer in answers for one in answer["won"]]
    assert len(won) + sum(answer["lost"] for answer in answers) == 16 * count
    assert len(won) == len({spec for spec, _ in won}) == len({epoch for _, epoch in won}) == count
    queue = shared.queue_of(hub)
    assert {(e["id"], e["lease"]["epoch"]) for e in queue["in_progress"]} == set(won)
    assert queue["epoch"] == count and len(shared.history(hub)) <= count + 1
    shared.sound(hub)


def test_claim_races_of_8_processes_over_the_file_store(tmp_path: Path) -> None:
    """Most attempts lose. 20,000 races; all 100,000 take 30 s on 2 cores."""
    rounds = 250 if FULL else 50
    for number in range(rounds):
        write_queue(tmp_path / "queues" / str(number), share_worker.FILE_SPECS)
    workers = [_start("file", tmp_path / "queues", tmp_path / "state", f"m{n}", rounds) for n in range(8)]
    answers = _answers(workers)
    won = [tuple(one) for answer in answers for one in answer["won"]]
    races = len(won) + sum(answer["lost"] for answer in answers)
    assert races == 8 * rounds * share_worker.FILE_SPECS * share_worker.AGAIN == 400 * rounds
    assert len(won) == len({one[:2] for one in won}) == rounds * share_worker.FILE_SPECS
    assert len({(number, epoch) for number, _, epoch in won}) == len(won)


# ---------------------------------------------------------------- the nonce (landing fact 5)


class _SameCommits(QueueBranch):
    """Two processes that make the same change make the same commit."""

    def write(self, data: bytes, parent: str, ops: Any, title: str = "Change the queue") -> str:
        blob = self.git.ask("hash-object", "-w", "--stdin", stdin=data).text
        tree = self.git.ask("mktree", stdin=f"100644 blob {blob}\tqueue.json\n".encode()).text
        dates = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
        return self.git("commit-tree", "-p", parent, "-m", title, tree, env=dates).text


class _Believing(_SameCommits):
    """And takes '=' for a win, as the exit status says."""

    def push(self, commit: str, expected: str) -> tuple[str, str]:
        outcome, said = super().push(commit, expected)
        return ("pushed" if "up to date" in said else outcome), said


def _double_claim(kind: type[QueueBranch], hub: Path, tmp_path: Path) -> int:
    """How many of two hosts that claim the same at the same moment are told that they have it."""
    heads, wins = [], 0
    hosts = [kind(tmp_path / f"{kind.__name__}{n}" / "queue.git", str(hub), "agentq", {}, 20) for n in range(2)]
    for host in hosts:
        host.ensure()
        heads.append(host.fetch().commit)
    for host, head in zip(hosts, heads, strict=True):
        commit = host.write(b'{"ready": [], "epoch": 1}\n', head, ["op"])
        wins += host.push(commit, head)[0] == "pushed"
    return wins


def test_two_claimers_never_push_the_same_commit(tmp_path: Path) -> None:
    """The mutants show that the test would notice: without a nonce the second push answers '='; whoever believes
    its exit status has a double claim."""
    hub = shared.make_hub(tmp_path, 1)
    assert _double_claim(QueueBranch, hub, tmp_path) == 1
    assert _double_claim(_SameCommits, hub, tmp_path) == 1, "the flag is read, so even then only one wins"
    assert _double_claim(_Believing, hub, tmp_path) == 2, "trap 5"


# ---------------------------------------------------------------- killed


def _steps(root: Path) -> list[str]:
    """The steps of one change on a host that knows the newest state."""
    root.mkdir()
    hub = shared.make_hub(root)
    shared.store(hub, root / "host").read()
    return _start("steps", hub, root / "host", "dry", 0).communicate(timeout=60)[0].splitlines()


def test_killed_at_every_step(tmp_path: Path) -> None:
    """The change is there or not; the neighbours on this host and on another one go on at once."""
    names = _steps(tmp_path / "dry")
    assert {"before git push", "after git push", "after put pushing", "after drop pushing"} <= set(names)
    hub, host = shared.make_hub(tmp_path), tmp_path / "host"
    neighbours = shared.store(hub, tmp_path / "elsewhere"), shared.store(hub, host)
    applied = []
    for number in range(1, len(names) + 1):
        neighbours[1].read()
        worker = _start("steps", hub, host, f"killed{number}", number)
        worker.communicate(timeout=60)
        assert worker.returncode == -signal.SIGKILL
        for index, neighbour in enumerate(neighbours):
            neighbour.update(shared.Adding(f"after{number}-{index}"))
        found = [entry["id"] for entry in shared.queue_of(hub)["ready"]]
        assert [times(found, f"after{number}-{index}") for index in (0, 1)] == [1, 1]
        applied.append(times(found, f"killed{number}"))
    pushed = names.index("after git push")
    assert applied == [0] * pushed + [1] * (len(names) - pushed), list(zip(names, applied, strict=True))
    shared.sound(hub)


def _said(logs: list[Path], word: str) -> int:
    return sum(log.read_text().count(f"{word} ") for log in logs if log.exists())


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Six processes on two hosts add specs and are killed and started again: what was said to be added is there
    once, what was not said is there at most once, and nothing else is."""
    hub = shared.make_hub(tmp_path)
    random.seed(7)
    logs: list[Path] = []
    running: list[subprocess.Popen[str]] = []

    def start() -> None:
        name = f"w{len(logs)}"
        logs.append(tmp_path / f"{name}.log")
        running.append(_start("add", hub, tmp_path / f"h{len(logs) % 2}", name, logs[-1]))

    for _ in range(6):
        start()
    until = time.monotonic() + 45
    while time.monotonic() < until and (len(logs) < 26 or _said(logs, "ok") < 60):
        time.sleep(random.uniform(0.2, 0.7))
        victim = running.pop(random.randrange(len(running)))
        os.kill(victim.pid, signal.SIGKILL)
        victim.communicate()
        start()
    for victim in running:
        victim.kill()
        victim.communicate()
    time.sleep(0.5)  # pushes outlive those who started them
    last = shared.store(hub, tmp_path / "h0")
    last.update(shared.Adding("last"))
    found = Counter(entry["id"].rpartition("-d")[0] for entry in shared.queue_of(hub)["ready"])
    lines = [line.split(" ", 2) for log in logs if log.exists() for line in log.read_text().splitlines()]
    said = [words for words in lines if words[0] == "error"]
    assert not said
    acknowledged = {words[1] for words in lines if words[0] == "ok"}
    tried = {words[1] for words in lines if words[0] == "try"}
    assert acknowledged
    assert all(found[name] == 1 for name in acknowledged), "no acknowledged update is lost"
    assert set(found) <= tried | {"last"} and max(found.values()) == 1, "nothing is applied twice"
    shared.sound(hub)


def test_a_zombie_push_arrives_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pusher is killed, its git lives on and arrives while others already settled it and go on."""
    hub, host = shared.make_hub(tmp_path), tmp_path / "host"
    hook = hub / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nif [ -e {tmp_path}/slow ]; then rm {tmp_path}/slow; sleep 1.5; fi\n")
    hook.chmod(0o755)
    (tmp_path / "slow").touch()
    victim = _start("add", hub, host, "victim", tmp_path / "log")
    while (tmp_path / "slow").exists():
        time.sleep(0.01)
    victim.kill()
    victim.communicate()
    others = [shared.store(hub, host), shared.store(hub, tmp_path / "elsewhere")]
    threads = [
        threading.Thread(
            target=lambda store=store, n=n: [store.update(shared.Adding(f"o{n}-{k}")) for k in range(8)]
        )
        for n, store in enumerate(others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    time.sleep(2)
    found = [entry["id"] for entry in shared.queue_of(hub)["ready"]]
    assert all(times(found, f"o{n}-{k}") == 1 for n in (0, 1) for k in range(8))
    assert times(found, "victim-1") <= 1
    shared.sound(hub)
