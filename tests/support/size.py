"""How much the long tests do: by default what fits into a run of all tests; everything with AGENTQ_TEST_FULL=1."""

import os

FULL = os.environ.get("AGENTQ_TEST_FULL") == "1"
