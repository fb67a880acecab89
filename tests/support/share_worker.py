"""One process that works on a shared queue. Usage:

share_worker.py claim HUB HOST NAME COUNT         try to claim s0, s1, …; prints JSON: won [id, epoch], lost
share_worker.py add HUB HOST NAME LOG             add specs for ever; LOG: 'try NAME' before, 'ok NAME' after each
share_worker.py steps HUB HOST NAME N             add one spec, die by SIGKILL at step N; prints the steps if alive
share_worker.py file QUEUES STATE NAME ROUNDS     claims on file stores, as `claim`; each round has its own queue
"""

import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import shared

from agentq.core import queue as transitions
from agentq.errors import AgentqError, Stale

AGAIN = 10  # tries of each spec of a file store by each process
FILE_SPECS = 5


def claims(store: Any, name: str, ids: list[str]) -> dict[str, Any]:
    now, won, lost = datetime.now(UTC), [], 0
    who = transitions.Claim(name, 1, now, timedelta(hours=1))
    for spec_id in ids:
        try:
            queue = store.update(lambda queue, spec_id=spec_id: transitions.claim(queue, spec_id, who))
            entry = transitions.running(queue, spec_id)
            assert entry.lease.machine == name
            won.append([spec_id, entry.lease.epoch])
        except Stale:
            lost += 1
    return {"won": won, "lost": lost}


def add(store: Any, name: str, log: Path) -> None:
    number = 0
    with log.open("a", buffering=1) as file:
        while True:
            number += 1
            spec = f"{name}-{number}"
            file.write(f"try {spec}\n")
            try:
                store.update(shared.Adding(spec))
            except AgentqError as error:
                file.write(f"error {spec} {error}\n")
                continue
            file.write(f"ok {spec}\n")


def steps(hub: Path, host: Path, name: str, deadly: int) -> None:
    """Every git command (before and after) and every write of the host's states (before and after)."""
    from agentq.store.waiting import Waiting
    from agentq.trunk.git import Git

    seen: list[str] = []

    def step(what: str) -> None:
        seen.append(what)
        if len(seen) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(kind: Any, method: str, word: Any) -> None:
        original = getattr(kind, method)

        def call(self: Any, *args: Any, **more: Any) -> Any:
            step(f"before {word(args)}")
            answer = original(self, *args, **more)
            step(f"after {word(args)}")
            return answer

        setattr(kind, method, call)

    counted(Git, "ask", lambda args: f"git {args[0]}")
    for method in ("put", "drop"):
        counted(Waiting, method, lambda args, method=method: f"{method} {args[0]}")
    shared.store(hub, host).update(shared.Adding(name))
    print("\n".join(seen))


def of_files(queues: Path, state: Path, name: str, rounds: int) -> dict[str, Any]:
    from agentq.store.file import FileStore

    total: dict[str, Any] = {"won": [], "lost": 0}
    for number in range(rounds):
        store = FileStore(queues / str(number) / "queue.json", state / str(number))
        done = claims(store, name, [f"s{n}" for n in range(FILE_SPECS)] * AGAIN)
        total["won"] += [[number, *one] for one in done["won"]]
        total["lost"] += done["lost"]
    return total


def main() -> None:
    mode, first, second, name, last = sys.argv[1:]
    if mode == "claim":
        ids = [f"s{n}" for n in range(int(last))]
        print(json.dumps(claims(shared.store(Path(first), Path(second)), name, ids)))
    elif mode == "add":
        add(shared.store(Path(first), Path(second)), name, Path(last))
    elif mode == "steps":
        steps(Path(first), Path(second), name, int(last))
    else:
        print(json.dumps(of_files(Path(first), Path(second), name, int(last))))


if __name__ == "__main__":
    main()
