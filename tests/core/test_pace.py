"""The guard: thresholds, resets, and delays with which the rest lasts."""

from hypothesis import assume, given
from hypothesis import strategies as st

from agentq.core import pace
from agentq.core.models import FIVE_HOURS, SEVEN_DAYS
from agentq.core.pace import Thresholds, Window
from agentq.drivers import base

NOW = 1_800_000_000.0
PARTS = st.floats(0, 1)
LEFT = st.floats(1, SEVEN_DAYS)


def five(part: float, left: float = 3600, status: str = "") -> Window:
    return Window("five_hour", part, NOW + left, status)


def seven(part: float, left: float = 86_400, status: str = "") -> Window:
    return Window("seven_day", part, NOW + left, status)


def kind(*windows: Window) -> str:
    return pace.decide(windows, NOW).kind


def test_the_thresholds_of_the_mission() -> None:
    assert kind() == kind(seven(0.40)) == kind(seven(0.10), five(0.75)) == "normal"
    assert kind(seven(0.41)) == kind(seven(0.75), five(0.75)) == "overflow"
    assert kind(five(0.76)) == kind(seven(0.76)) == kind(seven(0.1), five(0.8)) == "pace"
    assert kind(five(0.60)) == "normal", "five hours alone never overflow"


def test_they_can_be_set() -> None:
    low = Thresholds(overflow=0.2, pace=0.3)
    assert pace.decide([seven(0.25)], NOW, low).kind == "overflow"
    assert pace.decide([five(0.35)], NOW, low).kind == "pace"


def test_pacing_says_whether_execution_should_overflow_too() -> None:
    assert pace.decide([five(0.9), seven(0.3)], NOW).overflow is False
    assert pace.decide([five(0.9), seven(0.5)], NOW).overflow is True


def test_a_window_whose_reset_is_past_is_empty() -> None:
    assert kind(five(0.99, -1), seven(0.99, 0)) == "normal"
    assert kind(five(0.99, -1), seven(0.5)) == "overflow"
    assert kind(Window("five_hour", 0.99)) == "pace", "without a known reset it counts"


def test_a_rejected_window_is_full_and_unknown_ones_do_not_count() -> None:
    decision = pace.decide([five(0.1, 600, "rejected")], NOW)
    assert (decision.kind, decision.delay, decision.until) == ("pace", 600, NOW + 600)
    assert kind(Window("seven_day_opus", 0.99, NOW + 60)) == "normal"


def test_a_drivers_window_is_one() -> None:
    assert pace.decide([base.Window("seven_day", 0.5, NOW + 60)], NOW).kind == "overflow"


def test_the_reason_is_a_sentence() -> None:
    said = pace.decide([five(0.8), seven(0.1)], NOW).reason
    assert said.startswith("the five-hour window is 80% used, over 75%: one start every ")
    assert "execution goes to the next bucket" in pace.decide([seven(0.5)], NOW).reason


@given(PARTS, PARTS, LEFT, LEFT)
def test_more_use_is_never_answered_less_strictly(one: float, more: float, left: float, left7: float) -> None:
    assume(one <= more)
    order = ["normal", "overflow", "pace"]
    low, high = (pace.decide([five(part, left), seven(part, left7)], NOW) for part in (one, more))
    assert order.index(low.kind) <= order.index(high.kind) and low.delay <= high.delay + 1e-6


@given(st.floats(0.7501, 0.999), st.floats(600, SEVEN_DAYS), st.floats(0.0005, 0.05))
def test_the_rest_lasts_until_the_reset_and_is_not_hoarded(part: float, left: float, share: float) -> None:
    """Play a window to its end: starts as the guard allows, each using `share`."""
    begin, now, reset, starts = part, NOW, NOW + left, 0
    while now < reset and starts < 10_000:
        decision = pace.decide([Window("seven_day", part, reset)], now, share=share)
        assert decision.kind == "pace" and 0 < decision.delay <= reset - now + 1e-6
        now += max(decision.delay, 1e-3)
        if now < reset:
            part, starts = part + share, starts + 1
            assert part <= begin + (1 - begin) * (now - NOW) / left + 1.5 * share, "spent too early"
    if share < 0.01 and begin < 0.8:
        assert part > 0.80, "hoarded"


def test_a_delay_is_never_longer_than_the_window() -> None:
    assert pace.decide([Window("five_hour", 0.999)], NOW, share=0.5).delay == FIVE_HOURS
    assert pace.decide([seven(0.9)], NOW, share=0).delay == 0
