import pytest
from contracts.databases import DatabasesContract
from support.neon_document import neon_document  # noqa: F401
from support.neon_world import NeonWorld, neon_fixture  # noqa: F401


class TestNeon(DatabasesContract):
    @pytest.fixture
    def world(self, neon: NeonWorld) -> NeonWorld:
        return neon
