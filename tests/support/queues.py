"""Queue files for tests and benchmarks."""

import json
from pathlib import Path
from typing import Any


def entry(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"s{number}", "title": f"Spec {number}", "files_modified": [f"src/s{number}.py"], **fields}


def write_queue(folder: Path, count: int, **more: Any) -> Path:
    """queue.json with `count` ready specs."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "queue.json"
    path.write_text(json.dumps({"ready": [entry(n) for n in range(count)], **more}, indent=2) + "\n")
    return path
