"""`python -m bench [--only NAME]… [--json FILE]`: run the sections one after the other and print what they cost.

The exit code is 0 whatever the figures: a bench reports, tests judge.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from bench import (
    claims,
    databases,
    landing,
    lane,
    makespan,
    models,
    postgres,
    recommend,
    report,
    start,
    store,
    together,
)

SECTIONS: dict[str, tuple[str, report.Section]] = {
    "next": ("'agentq next --json' ÷ 'python -c \"import typer, pydantic\"'", recommend.section),
    "makespan": ("virtual time ÷ the lower bound of four real traces", makespan.section),
    "start": ("claim → the agent's first instruction, 5,000 files of 2 KB", start.section),
    "landing": ("the verify stage, check 'true' ÷ a bare 'git push' of one commit", landing.section),
    "lane": ("200 specs through the lane in virtual time, tests of 6 minutes", lane.section),
    "together": ("five specs ready to land at once, a check of one second", together.section),
    "store": ("updates a second of a queue of 2,000 specs", store.section),
    "claims": ("claims a second of a shared queue, by clones on one host", claims.section),
    "models": ("microseconds of a step in the book that all processes share", models.section),
    "databases": ("acquire of a branch of an 11 MB SQLite dev ÷ the fastest correct copy", databases.section),
    "postgres": ("acquire of a branch of an 11 MB PostgreSQL dev: warm, fresh, dev in use", postgres.section),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench", description="Measure agentq on this machine.")
    parser.add_argument("--only", action="append", choices=list(SECTIONS), metavar="NAME", default=[])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw numbers to FILE")
    given = parser.parse_args(arguments)
    root = Path(tempfile.mkdtemp(prefix="agentq-bench-"))
    before = dict(os.environ)
    try:
        _isolate(root / "home")
        facts = report.machine()
        print(report.header(facts))
        results = []
        for name in given.only or SECTIONS:
            title, section = SECTIONS[name]
            results.append(report.run(name, title, section, root / name))
            print(report.shown(results[-1]), flush=True)
            shutil.rmtree(root / name, ignore_errors=True)
        print(report.closing(results))
        if given.json:
            report.write_json(given.json, facts, results)
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(root, ignore_errors=True)
    return 0


def _isolate(home: Path) -> None:
    """A home of its own and no git settings of the machine; compiled modules are kept, as a person's are."""
    from support.sandbox import clean_environment

    home.mkdir()
    fresh = clean_environment(os.environ, home)
    del fresh["PYTHONDONTWRITEBYTECODE"]
    os.environ.clear()
    os.environ.update(fresh)


if __name__ == "__main__":
    raise SystemExit(main())
