"""The bench of the book on tiny sizes. Nothing here judges a time."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from bench import models, report  # noqa: E402


def test_models(tmp_path: Path) -> None:
    rows = models.section(tmp_path, processes=(1, 2), seconds=0.1, charges=600)
    assert len(rows) == 2 * len(models.KINDS)
    for row in rows:
        assert row.reached > 0 and row.raw["micros"]
        text = report.shown(report.Result("models", "title", (row,), 1.0))
        assert max(map(len, text.splitlines())) <= report.WIDTH
