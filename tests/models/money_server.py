"""A small model server that keeps its own record: `python money_server.py SEED EPISODES`.

EPISODES: JSON, [[n, status, probes], …]: from the n-th request on all fail with `status` (0 hangs), so many probes
among them; the next probe ends it. Beside that one request in fifty fails. POST / answers a cost; GET / gives the
record, one object a request. Prints its port.
"""

import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG = 2.0  # s; clients give up sooner


class Record:
    def __init__(self, seed: int, episodes: list[list[int]]) -> None:
        self.entries: list[dict[str, Any]] = []
        self.lock, self.episodes, self.dice = threading.Lock(), episodes, random.Random(seed)

    def add(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write a request down and decide what becomes of it."""
        with self.lock:
            status = self._planned(about["probe"] == "1")
            if status == 200 and self.dice.random() < 0.02:
                status = self.dice.choice([429, 529])
            cost = self.dice.randint(5, 20) / 1000 if status == 200 else 0.0
            entry = {**about, "arrived": time.monotonic(), "status": status, "cost": cost, "ended": None}
            self.entries.append(entry)
            return entry

    def _planned(self, probe: bool) -> int:
        if not self.episodes or len(self.entries) < self.episodes[0][0]:
            return 200
        _, status, probes = self.episodes[0]
        if probe and not probes:
            del self.episodes[0]
            return 200
        self.episodes[0][2] -= probe
        return status


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    record: Record


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        record: Record = self.server.record  # type: ignore[attr-defined]
        entry = record.add({name: self.headers[name] for name in ("id", "spec", "turn", "probe", "worker")})
        time.sleep(HANG if entry["status"] == 0 else 0.02)
        entry["ended"] = time.monotonic()
        self._answer(entry["status"] or 500, {"cost": entry["cost"]})

    def do_GET(self) -> None:
        record: Record = self.server.record  # type: ignore[attr-defined]
        with record.lock:
            self._answer(200, record.entries)

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the client gave up

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    server.record = Record(int(sys.argv[1]), json.loads(sys.argv[2]))
    print(server.server_address[1], flush=True)
    server.serve_forever()
