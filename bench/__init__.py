"""What agentq costs, measured: `python -m bench`. Every figure comes from the run that prints it.

The sections work on the projects the tests build, so the folder `tests` is importable from here.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
for _folder in (str(ROOT), str(ROOT / "tests")):
    if _folder not in sys.path:
        sys.path.append(_folder)
