"""Hardware read from trees on disk, proposals as tables and rules, `.machine` read back by the settings."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq import machine
from agentq.config import load
from agentq.core.sections import Machine
from agentq.machine import GB, Hardware, MachineProposal, check, detect, parse_meminfo, propose, render

TOP = Path(__file__).parents[1]
HOSTS = st.builds(
    Hardware,
    st.integers(1, 1024),
    st.floats(0.1, 20_000).map(lambda value: round(value, 1)),
    st.floats(0, 100_000).map(lambda value: round(value, 1)),
)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cpus", "ram", "disk", "instances", "playwright", "tests", "reserve", "bound"),
    [
        (2, 2, 100, 1, 1, 2, 4, "memory"),
        (4, 8, 100, 1, 2, 4, 4, "memory"),
        (8, 16, 100, 2, 4, 8, 4, "memory"),
        (16, 64, 500, 9, 1, 3, 10, "memory"),
        (64, 256, 2000, 37, 1, 3, 32, "memory"),
        (2, 256, 2000, 4, 1, 1, 32, "cpus"),
        (16, 64, 9, 4, 4, 8, 10, "disk"),
        (16, 64, 0, 1, 4, 16, 10, "disk"),
        (1000, 20_000, 90_000, 256, 3, 7, 32, "limit"),
    ],
)
def test_proposals(
    cpus: int,
    ram: float,
    disk: float,
    instances: int,
    playwright: int,
    tests: int,
    reserve: float,
    bound: str,
) -> None:
    expected = MachineProposal(ram, instances, playwright, tests, reserve, 6, bound)
    assert propose(Hardware(cpus, ram, disk)) == expected


@given(HOSTS)
def test_a_proposal_for_more_than_one_agent_fits(hardware: Hardware) -> None:
    proposal = propose(hardware)
    assert proposal.instances >= 1
    if proposal.instances > 1:
        need = proposal.instances * proposal.agent_gb + proposal.reserve_gb
        assert need <= hardware.ram_gb
        assert check(proposal, hardware) == []


@given(HOSTS, st.floats(0, 1000))
def test_more_memory_never_means_fewer_agents(hardware: Hardware, more: float) -> None:
    larger = replace(hardware, ram_gb=hardware.ram_gb + more)
    assert propose(larger).instances >= propose(hardware).instances


@given(HOSTS, st.sampled_from(["", "box-1"]), st.sampled_from(["", "laptop"]), st.sampled_from(["", "~/w x"]))
def test_what_is_rendered_loads_as_proposed(
    tmp_path_factory: pytest.TempPathFactory, hardware: Hardware, name: str, type: str, workspaces: str
) -> None:
    proposal = propose(hardware)
    root = tree(tmp_path_factory.mktemp("host"), {".machine": render(proposal, name, type, workspaces)})
    loaded = load(root, {}).machine
    wanted = {key: getattr(proposal, key) for key in MachineProposal.__dataclass_fields__ if key != "bound"}
    expected = Machine(name=name or loaded.name, type=type, workspaces=workspaces, **wanted)
    assert loaded == expected


def test_the_example_is_a_proposal_with_every_key() -> None:
    text = (TOP / ".machine.example").read_text()
    assert text == render(propose(Hardware(8, 32.0, 200.0)), "")
    assert all(f"\n{key} = " in text for key in Machine.__dataclass_fields__)


HOST = Hardware(cpus=4, ram_gb=15.5, disk_free_gb=100)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Machine(), []),
        (Machine(ram_gb=16, instances=2), []),
        (Machine(ram_gb=32), ["ram_gb is 32, but this host has 15.5 GB"]),
        (
            Machine(instances=4),
            ["instances is 4: 4 x 6 GB and 4 GB for the system exceed 15.5 GB; 1 would fit"],
        ),
        (
            Machine(ram_gb=10, instances=2),
            ["instances is 2: 2 x 6 GB and 4 GB for the system exceed 10 GB; 1 would fit"],
        ),
        (
            Machine(agent_gb=20),
            ["instances is 1: 1 x 20 GB and 4 GB for the system exceed 15.5 GB; this host is small for one agent"],
        ),
        (Machine(instances=9, agent_gb=1), ["instances is 9, but 4 cores carry 8 agents"]),
        (Machine(test_workers=5), ["test_workers is 5, but this host has 4 cores"]),
        (Machine(playwright_workers=8), ["playwright_workers is 8, but this host has 4 cores"]),
    ],
)
def test_limits_larger_than_the_host_are_named(limits: Machine, said: list[str]) -> None:
    assert check(limits, HOST) == said


def test_a_full_disk_is_named() -> None:
    assert check(Machine(), replace(HOST, disk_free_gb=1)) == [
        "instances is 1: workspaces may take 2 GB, but 1 GB of disk are free"
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("MemTotal: 1 kB\nMemAvailable:    2048 kB\n", 2048 * 1024),
        ("MemTotal: 1 kB\nMemFree: 3 kB\n", None),
        ("MemAvailable:\n", None),
        ("MemAvailable: x kB\n", None),
        ("", None),
    ],
)
def test_meminfo(text: str, value: int | None) -> None:
    assert parse_meminfo(text) == value


V2 = {
    "proc/meminfo": f"MemAvailable: {8 * 1024 * 1024} kB\n",
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/memory.max": str(3 * GB),
    "sys/fs/cgroup/a/memory.current": str(2 * GB),
    "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {GB}\n",
    "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/a/b/memory.max": "max\n",
    "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
}
V1 = {
    "proc/meminfo": f"MemAvailable: {8 * 1024 * 1024} kB\n",
    "proc/self/cgroup": "5:cpu,cpuacct:/gone\n4:memory:/gone\n1:name=systemd:/\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": str(4 * GB),
    "sys/fs/cgroup/memory/memory.usage_in_bytes": str(3 * GB),
    "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB}\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(("files", "free", "total"), [(V2, 2.0, 3.0), (V1, 2.0, 4.0)])
def test_limits_of_a_container_count(tmp_path: Path, files: dict[str, str], free: float, total: float) -> None:
    root = tree(tmp_path, files)
    assert machine.available_gb(root) == free
    assert machine.usable_cpus(root) == 1
    hardware = detect(tmp_path / "not" / "yet", root)
    assert (hardware.cpus, hardware.ram_gb) == (1, total)
    assert hardware.disk_free_gb >= 0


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/../../x\n"},
        {"proc/self/cgroup": "rubbish\n\n4:memory\n"},
        {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"},
        {"proc/self/cgroup": "4:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000\n"},
        {},
    ],
)
def test_cgroups_without_a_limit_change_nothing(tmp_path: Path, files: dict[str, str]) -> None:
    root = tree(tmp_path, {"proc/meminfo": "MemAvailable: 2097152 kB\n", **files})
    assert machine.available_gb(root) == 2.0
    assert machine.usable_cpus(root) == machine.usable_cpus(tmp_path / "nothing")


def test_without_proc_the_system_is_asked(tmp_path: Path) -> None:
    assert machine.available_gb(tmp_path) > 0


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="no /proc here: psutil is the only way")
def test_available_memory_needs_no_psutil() -> None:
    code = "import sys; from agentq.machine import available_gb; available_gb(); print('psutil' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
