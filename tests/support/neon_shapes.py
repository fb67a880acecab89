"""What the fake Neon knows, in the shapes of Neon's document."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from support.neon_http import PROJECT

DEV = "br-main-000001"


@dataclass
class Operation:
    id: str
    branch: str
    action: str
    ticks: int
    failing: bool = False
    cancelled: bool = False
    failures: int = 0

    @property
    def status(self) -> str:
        if self.cancelled:
            return "cancelled"
        if self.ticks <= 0:
            return "finished"
        return "failed" if self.failing else "running" if self.ticks < 3 else "scheduling"


@dataclass
class FakeBranch:
    id: str
    name: str
    parent: str
    folder: Path
    passwords: dict[str, str]
    endpoint: str
    databases: list[str]
    expires_at: str = ""
    active: bool = False
    suspended_at: int = 0  # microseconds after `now`; -1: Neon does not say
    pending: str = ""
    protected: bool = False

    @property
    def host(self) -> str:
        return f"{self.endpoint}.us-east-2.aws.neon.test"


class Shapes:
    now: datetime

    def _project(self, stores_passwords: bool, limit: int) -> dict[str, Any]:
        zeros = (
            "active_time_seconds", "compute_time_seconds", "written_data_bytes", "data_transfer_bytes",
            "data_storage_bytes_hour", "branch_logical_size_limit", "branch_logical_size_limit_bytes", "cpu_used_sec",
        )  # fmt: skip
        now = self.now.isoformat()
        dates = ("consumption_period_end", "consumption_period_start", "created_at", "updated_at")
        owner = {
            "email": "a@example.invalid",
            "name": "A",
            "subscription_type": "scale",
            "branches_limit": limit,
        }
        return dict.fromkeys(zeros, 0) | dict.fromkeys(dates, now) | {
                "id": PROJECT, "platform_id": "aws", "region_id": "aws-us-east-2", "name": "fake", "pg_version": 17,
                "proxy_host": "us-east-2.aws.neon.test", "store_passwords": stores_passwords, "owner_id": "1",
                "provisioner": "k8s-neonvm", "creation_source": "console", "history_retention_seconds": 86400,
                "owner": owner,
            }  # fmt: skip

    def _dates(self) -> dict[str, str]:
        return {"created_at": self.now.isoformat(), "updated_at": self.now.isoformat()}

    def _branch(self, b: FakeBranch) -> dict[str, Any]:
        zeros = (
            "cpu_used_sec",
            "active_time_seconds",
            "compute_time_seconds",
            "written_data_bytes",
            "data_transfer_bytes",
        )
        more = ({"parent_id": b.parent} if b.parent else {}) | (
            {"expires_at": b.expires_at} if b.expires_at else {}
        )
        return dict.fromkeys(zeros, 0) | self._dates() | more | {
            "id": b.id, "project_id": PROJECT, "name": b.name, "current_state": "ready", "creation_source": "console",
            "state_changed_at": self.now.isoformat(), "default": b.id == DEV, "protected": b.protected,
        }  # fmt: skip

    def _endpoint(self, b: FakeBranch) -> dict[str, Any]:
        suspended = (self.now + timedelta(microseconds=b.suspended_at)).isoformat()
        return self._dates() | {
            "host": b.host, "id": b.endpoint, "project_id": PROJECT, "branch_id": b.id, "region_id": "aws-us-east-2",
            "autoscaling_limit_min_cu": 0.25, "autoscaling_limit_max_cu": 1, "type": "read_write",
            "current_state": "active" if b.active else "idle", "pooler_enabled": False, "pooler_mode": "transaction",
            "disabled": False, "passwordless_access": True, "creation_source": "console", "settings": {},
            "proxy_host": "us-east-2.aws.neon.test", "suspend_timeout_seconds": 0, "provisioner": "k8s-neonvm",
        } | ({} if b.suspended_at < 0 else {"suspended_at": suspended}) | ({"pending_state": b.pending} if b.pending else {})  # fmt: skip

    def _role(self, b: FakeBranch, name: str, secret: bool) -> dict[str, Any]:
        more = {"password": b.passwords[name]} if secret else {}
        return {"branch_id": b.id, "name": name, "protected": False} | more | self._dates()

    def _database(self, b: FakeBranch, name: str) -> dict[str, Any]:
        owner = next(iter(b.passwords))
        return {
            "id": b.databases.index(name),
            "branch_id": b.id,
            "name": name,
            "owner_name": owner,
        } | self._dates()

    def _operation(self, op: Operation) -> dict[str, Any]:
        return self._dates() | {
            "id": op.id, "project_id": PROJECT, "branch_id": op.branch, "action": op.action, "status": op.status,
            "failures_count": int(op.failing), "total_duration_ms": 100,
        }  # fmt: skip
