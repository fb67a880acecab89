"""One line of a check-up, the same for every door that can be looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`hint` says what to do when `ok` is false, '' when there is nothing to do."""

    ok: bool
    text: str
    hint: str = ""
