"""Every test gets a home of its own, no git settings of the machine, and a name to commit under."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sandbox import clean_environment


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(clean_environment(before, tmp_path_factory.mktemp("home")))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
