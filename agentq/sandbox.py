"""Walls around what an agent starts: bubblewrap where it is present (agents fact, "Sandbox")."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["bwrap", "none"]
Use = Literal["auto", "required", "off"]


@dataclass(frozen=True, slots=True)
class Walls:
    """What one command may do.

    workspace: writable, but for `.git/config`, `.git/hooks` and what else there names programs.
    writable: further files and folders it may write. readable: what it must still see although its surroundings
    are hidden (/tmp, credentials). network: whether it may reach the network; without, only `reach` (host, port)
    is there, for its database branch.
    """

    workspace: Path
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    network: bool = False
    reach: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Sandbox:
    mode: Mode
    program: str = ""

    def wrap(self, command: Sequence[str], walls: Walls) -> list[str]:
        """`command` inside the walls; as it is where there are none."""
        raise NotImplementedError


def find(use: Use) -> Sandbox:
    """What this host has. Raises Refused for `required` where there is nothing."""
    raise NotImplementedError
