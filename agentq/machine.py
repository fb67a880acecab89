"""This host: what hardware agents may use, and how many of them fit (mission rows T13 and T14).

GB means 2**30 bytes, as the kernel counts. Limits of a container (cgroup version 1 or 2) count as hardware.
Invariant: a proposal fits the hardware it was made for, except that one agent is always allowed.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agentq.core import tomltext

GB = 2**30
AGENT_GB = 6.0
# The editor, the desktop, databases and the file cache stay usable: 15 %, at least 4 GB, and no more than
# 32 GB, because what a system needs for itself stops growing with its memory.
RESERVE_SHARE, RESERVE_LEAST, RESERVE_MOST = 0.15, 4.0, 32.0
# An agent waits for its model most of the time, but its tests take whole cores: two share a core.
AGENTS_PER_CPU = 2
# A checkout with its installed dependencies and build output.
WORKSPACE_GB = 2.0
# A browser worker takes 0.5 to 1 GB, and all of an agent's browsers at most half of its memory: the other half
# is for the agent and the server under test.
BROWSER_GB = 0.75
MOST_INSTANCES = 256
MOST_WORKERS = 1024
# A host sold with 16 GB reports about 15.5: firmware and kernel keep the rest.
TOLERANCE = 1.05
_UNLIMITED = 2**60


@dataclass(frozen=True)
class Hardware:
    """`cpus`: cores this process may use, at least 1. `disk_free_gb`: where the workspaces go."""

    cpus: int
    ram_gb: float
    disk_free_gb: float


@dataclass(frozen=True)
class MachineProposal:
    """Values for `.machine`; `bound` says what set the number of instances: memory, cpus, disk or limit."""

    ram_gb: float
    instances: int
    playwright_workers: int
    test_workers: int
    reserve_gb: float
    agent_gb: float
    bound: str


class Limits(Protocol):
    """What `check` reads of a `.machine`; the section `machine` of a Config has this shape."""

    @property
    def ram_gb(self) -> float: ...
    @property
    def instances(self) -> int: ...
    @property
    def playwright_workers(self) -> int: ...
    @property
    def test_workers(self) -> int: ...
    @property
    def reserve_gb(self) -> float: ...
    @property
    def agent_gb(self) -> float: ...


def detect(folder: Path, root: Path = Path("/")) -> Hardware:
    """The hardware of this host. `folder` is where workspaces will be, existing or not; `root` holds
    proc and sys. Imports psutil (about 40 ms)."""
    import psutil

    while not folder.exists():
        folder = folder.parent
    ram = min([psutil.virtual_memory().total, *_memory_limits(root)])
    disk = psutil.disk_usage(str(folder)).free
    return Hardware(usable_cpus(root), round(ram / GB, 1), round(disk / GB, 1))


def usable_cpus(root: Path = Path("/")) -> int:
    """Cores this process may use: its affinity, or less where a cgroup quota says so (rounded up)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(quota) for quota in _cpu_quotas(root))]))


def available_gb(root: Path = Path("/")) -> float:
    """Memory that can be taken now without swapping. Reads proc; without it asks psutil (about 40 ms)."""
    free = parse_meminfo(_read(root / "proc/meminfo"))
    if free is None:
        import psutil

        free = psutil.virtual_memory().available
    return max(0.0, min([free, *_memory_headrooms(root)]) / GB)


def parse_meminfo(text: str) -> int | None:
    """MemAvailable of /proc/meminfo in bytes, None when it is not there (kernels before 3.14)."""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["MemAvailable:"] and len(words) > 1 and words[1].isdigit():
            return int(words[1]) * 1024
    return None


def propose(hardware: Hardware) -> MachineProposal:
    """How many agents fit: the least of what memory, cores and disk allow, and at least one."""
    reserve = min(max(RESERVE_LEAST, math.ceil(hardware.ram_gb * RESERVE_SHARE)), RESERVE_MOST)
    fits = {
        "memory": int((hardware.ram_gb - reserve) // AGENT_GB),
        "cpus": hardware.cpus * AGENTS_PER_CPU,
        "disk": int(hardware.disk_free_gb // WORKSPACE_GB),
        "limit": MOST_INSTANCES,
    }
    bound = min(fits, key=lambda name: fits[name])
    instances = max(1, fits[bound])
    browsers = int(min(AGENT_GB, hardware.ram_gb - reserve) / 2 // BROWSER_GB)
    return MachineProposal(
        ram_gb=hardware.ram_gb,
        instances=instances,
        playwright_workers=max(1, min(hardware.cpus // instances, browsers)),
        # Not all agents test at the same moment: together they may ask for twice the cores.
        test_workers=min(max(1, hardware.cpus * 2 // instances), hardware.cpus, MOST_WORKERS),
        reserve_gb=reserve,
        agent_gb=AGENT_GB,
        bound=bound,
    )


def render(proposal: MachineProposal, name: str, type: str = "", workspaces: str = "") -> str:
    """The text of a `.machine` file (TOML, flat). An empty `name` means the host's own."""
    p = proposal
    rows: list[tuple[str, str, object]] = [
        ("Name in leases. Empty: the host's name.", "name", name),
        ("What kind of host this is, in your own words.", "type", type),
        ("Memory of this host (GB). 0: ask the system.", "ram_gb", p.ram_gb),
        ("Left to the system: editor, databases, file cache (GB).", "reserve_gb", p.reserve_gb),
        ("What one agent needs with its tests and browsers (GB).", "agent_gb", p.agent_gb),
        (f"Agents that may work here at once. {_because(p)}", "instances", p.instances),
        (
            "Browser workers and test processes each agent may start.",
            "playwright_workers",
            p.playwright_workers,
        ),
        ("", "test_workers", p.test_workers),
        (
            "Test runs of the landing lane at once. More than one also tests the next batch ahead.",
            "verifications",
            1,
        ),
        ("Database branches kept ready for the next stage. 0: each is made when it is asked for.", "warm", 0),
        ("Folder of the workspaces, absolute or with '~/'. Empty: the default.", "workspaces", workspaces),
    ]
    lines = ["# This host, for agentq. Not committed: every host has its own.", ""]
    for comment, key, value in rows:
        lines += [f"# {comment}"] if comment else []
        lines.append(f"{key} = {tomltext.dump(value)}")
    return "\n".join(lines) + "\n"


def _because(p: MachineProposal) -> str:
    needs = f"({p.ram_gb:g} - {p.reserve_gb:g}) GB / {p.agent_gb:g} GB"
    return {
        "memory": f"Memory sets it: {needs}, at least one.",
        "cpus": f"The cores set it: {AGENTS_PER_CPU} for each core.",
        "disk": f"The free disk sets it: {WORKSPACE_GB:g} GB for each workspace, at least one.",
        "limit": f"The most there can be is {MOST_INSTANCES}.",
    }[p.bound]


def check(limits: Limits, hardware: Hardware) -> list[str]:
    """A sentence for each way in which `.machine` promises more than the host has."""
    said: list[str] = []
    host, cpus = hardware.ram_gb, hardware.cpus
    if limits.ram_gb > host * TOLERANCE:
        said.append(f"ram_gb is {limits.ram_gb:g}, but this host has {host:g} GB")
    ram = min(limits.ram_gb or host, host)
    need = limits.instances * limits.agent_gb + limits.reserve_gb
    if need > ram * TOLERANCE:
        fit = max(1, int((ram - limits.reserve_gb) // limits.agent_gb))
        remedy = f"{fit} would fit" if fit < limits.instances else "this host is small for one agent"
        said.append(
            f"instances is {limits.instances}: {limits.instances} x {limits.agent_gb:g} GB and "
            f"{limits.reserve_gb:g} GB for the system exceed {ram:g} GB; {remedy}"
        )
    if limits.instances > cpus * AGENTS_PER_CPU:
        said.append(f"instances is {limits.instances}, but {cpus} cores carry {cpus * AGENTS_PER_CPU} agents")
    for key in ("test_workers", "playwright_workers"):
        if getattr(limits, key) > cpus:
            said.append(f"{key} is {getattr(limits, key)}, but this host has {cpus} cores")
    disk = limits.instances * WORKSPACE_GB
    if disk > hardware.disk_free_gb:
        said.append(
            f"instances is {limits.instances}: workspaces may take {disk:g} GB, "
            f"but {hardware.disk_free_gb:g} GB of disk are free"
        )
    return said


def _memory_limits(root: Path) -> Iterator[int]:
    for folder in _cgroups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            yield from _number(folder / name)


def _memory_headrooms(root: Path) -> Iterator[int]:
    """What each limited cgroup around this process still has; its file cache can be taken back."""
    for folder in _cgroups(root, "memory"):
        for limit_file, usage_file, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            for limit in _number(folder / limit_file):
                for usage in _number(folder / usage_file):
                    stat = dict(
                        line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line
                    )
                    cached = stat.get(cache, "0")
                    yield limit - usage + (int(cached) if cached.isdigit() else 0)


def _cpu_quotas(root: Path) -> Iterator[float]:
    for folder in _cgroups(root, "cpu"):
        quota, period = (*_read(folder / "cpu.max").split(), "", "")[:2]
        if not quota:
            quota, period = (_read(folder / f"cpu.cfs_{part}_us").strip() for part in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            yield int(quota) / int(period)


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the cgroups around this process, innermost first, whichever version carries `controller`.
    In a container the names may be the host's: what does not exist reads as empty."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, name = (*line.split(":", 2), "", "")[:3]
        parts = [part for part in name.split("/") if part]
        if ".." in parts or (number != "0" and controller not in controllers.split(",")):
            continue
        mount = root / "sys/fs/cgroup" / ("" if number == "0" and not controllers else controller)
        for depth in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:depth])


def _number(path: Path) -> Iterator[int]:
    """The number a file holds; nothing when it holds none or one that means unlimited."""
    text = _read(path).strip()
    if text.isdigit() and int(text) < _UNLIMITED:
        yield int(text)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
