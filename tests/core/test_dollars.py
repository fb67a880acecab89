"""Money as people read it."""

import pytest

from agentq.core.text import dollars


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "$0.00"), (0.0024, "$0.0024"), (0.0999, "$0.0999"), (0.1, "$0.10"), (1234.5, "$1,234.50")],
)
def test_dollars(value: float, shown: str) -> None:
    assert dollars(value) == shown
