"""How fast a plan may be spent (mission row N7): normally, with execution overflowing to another bucket, or paced.

Pure. The aim is to spend most of a window by its reset, not to hoard it: nothing is held back below the
thresholds, and what is kept back above them melts as the reset comes nearer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from agentq.core.models import FIVE_HOURS, SEVEN_DAYS

LENGTHS = {"five_hour": FIVE_HOURS, "seven_day": SEVEN_DAYS}
OVERFLOW, PACE, AIM = 0.40, 0.75, 0.80
SHARE = 0.01  # of a window that one start uses, where nobody measured


class Reported(Protocol):
    """One window as a provider tells it; `agentq.drivers.base.Window` is one."""

    @property
    def name(self) -> str: ...
    @property
    def utilization(self) -> float: ...
    @property
    def resets_at(self) -> float: ...
    @property
    def status(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Window:
    """One window. utilization: 0 to 1. resets_at: seconds since 1970, 0: unknown. status: as the provider says."""

    name: str
    utilization: float
    resets_at: float = 0
    status: str = ""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Shares of a window, 0 to 1. overflow: of seven days. pace: of either. aim: to be spent by the reset."""

    overflow: float = OVERFLOW
    pace: float = PACE
    aim: float = AIM


@dataclass(frozen=True, slots=True)
class Decision:
    """kind: the strictest that applies. overflow: whether execution should go to the next bucket, if there is
    one (also while pacing). delay: seconds between starts, 0 unless pacing. until: when the window that decided
    is reset, seconds since 1970, 0: unknown. reason: a sentence for people."""

    kind: Literal["normal", "overflow", "pace"]
    reason: str
    overflow: bool = False
    delay: float = 0.0
    until: float = 0.0


def decide(
    windows: Iterable[Reported], now: float, thresholds: Thresholds = Thresholds(), share: float = SHARE
) -> Decision:
    """What to do before a start. now: seconds since 1970. share: part of a window that one start uses. Windows
    of other names than LENGTHS do not count; one whose reset is past is empty."""
    live = [(window, used(window, now)) for window in windows if window.name in LENGTHS]
    over = [one for one in live if one[0].name == "seven_day" and one[1] > thresholds.overflow]
    tight = [(_delay(window, part, now, thresholds, share), window, part) for window, part in live
             if part > thresholds.pace]  # fmt: skip
    if tight:
        delay, window, part = max(tight, key=lambda one: one[0])
        reason = f"{_says(window, part)}, over {thresholds.pace:.0%}: one start every {_span(delay)}"
        return Decision("pace", reason, bool(over), delay, window.resets_at)
    if over:
        window, part = over[0]
        reason = f"{_says(window, part)}, over {thresholds.overflow:.0%}: execution goes to the next bucket"
        return Decision("overflow", reason, overflow=True, until=window.resets_at)
    if not live:
        return Decision("normal", "no window is known")
    window, part = max(live, key=lambda one: one[1])
    return Decision("normal", f"{_says(window, part)}: as fast as you like", until=window.resets_at)


def used(window: Reported, now: float) -> float:
    """The part of a window that is used, 0 to 1."""
    if 0 < window.resets_at <= now:
        return 0.0
    if window.status == "rejected":
        return 1.0
    return min(max(window.utilization, 0.0), 1.0)


def _delay(window: Reported, part: float, now: float, thresholds: Thresholds, share: float) -> float:
    """Seconds between starts with which the rest lasts until the reset."""
    length = LENGTHS[window.name]
    left = min(window.resets_at - now, length) if window.resets_at else length
    if part >= 1:
        return left
    kept = (1 - thresholds.aim) * left / length
    rest = max(1 - kept - part, (1 - part) / 4)
    return min(left, max(share, 0.0) * left / rest)


def _says(window: Reported, part: float) -> str:
    return f"the {window.name.replace('_', '-')} window is {part:.0%} used"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
