"""What a child prints, on its way into a file: appended, without secrets, read back as safe text."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agentq.core.redact import Redactor
from agentq.core.text import clean

_DRAIN_LIMIT = 10.0  # s to wait for what is left in the pipe


def append(output: Path) -> int:
    """A descriptor that appends to `output`, made with mode 0600. OSError."""
    output.parent.mkdir(parents=True, exist_ok=True)
    return os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextmanager
def sink(output: Path, secrets: Sequence[str]) -> Iterator[int]:
    """A descriptor whose input is written to `output` without `secrets`; -1 if there are none."""
    if not secrets:
        yield -1
        return
    source, inlet = os.pipe()
    pump = threading.Thread(target=_pump, args=(source, output, Redactor(secrets)), daemon=True)
    pump.start()
    try:
        yield inlet
    finally:
        os.close(inlet)
        # None of the run's processes is left to hold the other end; one that escaped is not waited for.
        pump.join(_DRAIN_LIMIT)


def _pump(source: int, output: Path, redactor: Redactor) -> None:
    target = append(output)
    try:
        while piece := os.read(source, 65536):
            _write(target, redactor.feed(piece))
        _write(target, redactor.flush())
    finally:
        os.close(source)
        os.close(target)


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, lines: int = 20, max_bytes: int = 64 * 1024, start: int = 0) -> str:
    """The last non-empty lines, cleaned, from at most `max_bytes` beyond offset `start`. "" if no file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            begin = max(start, end - max_bytes)
            # One byte more tells whether the window begins with a whole line.
            file.seek(max(start, begin - 1))
            data = file.read(end - file.tell())
    except FileNotFoundError:
        return ""
    if begin > start:
        data = data.partition(b"\n")[2] or data
    # A bare carriage return is how progress bars start a line over.
    text = clean(data.decode(errors="replace").replace("\r", "\n"))
    return "\n".join([line.rstrip() for line in text.split("\n") if line.strip()][-lines:])
