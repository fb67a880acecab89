"""Run one spec in this process and die by SIGKILL at step N. Steps: every event, every change of the queue
(before and after), every git command (before). Prints the number of steps when it lives to the end.

Usage: python crash.py CHECKOUT SPEC N"""

import os
import signal
import sys
from pathlib import Path
from typing import Any


class Steps:
    def __init__(self, deadly: int) -> None:
        self.count, self.deadly = 0, deadly
        self.names: list[str] = []

    def __call__(self, name: str) -> None:
        self.count += 1
        self.names.append(name)
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    from agentq import wiring
    from agentq.flows.recover import recover
    from agentq.flows.run import run_spec
    from agentq.trunk.git import Git

    steps = Steps(int(sys.argv[3]))
    made = wiring.services(
        wiring.base(Path(sys.argv[1])), wiring.recording(lambda event, _data: steps(f"event {event}"))
    )
    update, ask = made.store.update, Git.ask

    def counted_update(change: Any) -> Any:
        steps("before a queue change")
        queue = update(change)
        steps("after a queue change")
        return queue

    def counted_ask(self: Any, *args: Any, **more: Any) -> Any:
        steps(f"git {args[0]}")
        output = ask(self, *args, **more)
        if args[0] == "push":
            steps("after the push")
        return output

    made.store.update = counted_update  # type: ignore[method-assign]
    Git.ask = counted_ask  # type: ignore[method-assign]
    recover(made)
    report = run_spec(made, sys.argv[2], confirm=lambda _spec, _summary: True)
    assert report.ended == "landed", report
    print("\n".join(steps.names))


if __name__ == "__main__":
    main()
