"""The bench of the shared queue on tiny sizes. Nothing here judges a time."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from bench import claims, report  # noqa: E402


def test_claims(tmp_path: Path) -> None:
    rows = claims.section(tmp_path, clones=(1, claims.JUDGED), seconds=0.5, rounds=1)
    assert [row.name for row in rows] == ["1 clone", "8 clones", "8 clones: bare ÷ agentq"]
    for row in rows:
        assert row.reached > 0 and all(len(values) == 1 for values in row.raw.values())
        text = report.shown(report.Result("claims", "title", (row,), 1.0))
        assert max(map(len, text.splitlines())) <= report.WIDTH
