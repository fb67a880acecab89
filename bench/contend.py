"""Processes that change one queue for some seconds: `python -m bench.contend QUEUE STATE PROCESSES SECONDS`.

A program of its own, so that it has one thread when it forks: 64 interpreters would need longer to start than
the measurement lasts. Prints JSON: for each process [updates, seconds of its longest update, began, ended], the
last two as monotonic seconds that all processes share.
"""

import json
import multiprocessing
import sys
import time
from pathlib import Path
from queue import Empty
from typing import Any

from agentq.core import queue as transitions
from agentq.store.file import FileStore


def work(store: FileStore, me: int, seconds: float, ready: Any, answers: Any) -> None:
    """Hold and release one spec of its own until the time is over."""
    spec_id = f"s{me}"
    store.read()
    ready.wait()
    updates, longest = 0, 0.0
    start = time.monotonic()
    while (began := time.monotonic()) < start + seconds:
        if updates % 2:
            store.update(lambda queue: transitions.unhold(queue, spec_id))
        else:
            store.update(lambda queue: transitions.hold(queue, spec_id, "bench"))
        updates += 1
        longest = max(longest, time.monotonic() - began)
    answers.put((updates, longest, start, time.monotonic()))


def _answer(answers: Any, children: list[Any]) -> tuple[int, float, float, float]:
    """The next answer. Raises RuntimeError when a child died without one."""
    while True:
        try:
            return answers.get(timeout=1)  # type: ignore[no-any-return]
        except Empty:
            if any(child.exitcode for child in children):
                for child in children:
                    child.kill()
                raise RuntimeError("an update failed") from None


def main() -> None:
    path, state, count, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    context = multiprocessing.get_context("fork")
    ready, answers = context.Barrier(count), context.Queue()
    store = FileStore(path, state)
    store.read()
    children = [context.Process(target=work, args=(store, n, seconds, ready, answers)) for n in range(count)]
    for child in children:
        child.start()
    found = [_answer(answers, children) for _ in children]
    for child in children:
        child.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
