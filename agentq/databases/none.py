"""The provider "none": a project without a database. Branches carry no URL, and nothing is stored."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from agentq.core.finding import Finding
from agentq.databases.base import EMPTY, Branch, Generation, command_key


class NoDatabases:
    """Satisfies `Databases` and touches nothing. Branches are not remembered, so `branches()` is empty."""

    name = "none"

    def doctor(self) -> list[Finding]:
        return [Finding(True, "no database configured")]

    def head(self) -> str:
        return "none"

    def seal(self) -> Generation:
        return Generation("none", self.head())

    def dev(self) -> Mapping[str, str]:
        return {}

    def moving(self) -> AbstractContextManager[None]:
        return nullcontext()

    def acquire(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        name = f"b{command_key(command_id)}"
        return Branch(name, name, self.seal().id, "", {}, now + ttl, owner)

    def empty(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        name = f"e{command_key(command_id)}"
        return Branch(name, name, EMPTY, "", {}, now + ttl, owner)

    def warm(self, count: int) -> int:  # noqa: ARG002
        return 0

    def release(self, branch_id: str) -> None:
        """Nothing to destroy."""

    def branches(self) -> list[Branch]:
        return []

    def reap(self, now: datetime, alive: Callable[[str], bool]) -> list[str]:  # noqa: ARG002
        return []
