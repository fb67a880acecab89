"""The last line of the error boundary, where nothing can be written any more."""

import json
import tempfile
from pathlib import Path

import pytest

from agentq.__main__ import _crash
from agentq.errors import ExitCode


@pytest.mark.parametrize("wants_json", [False, True])
def test_a_bug_is_told_though_the_disk_is_full(
    wants_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert _crash(ZeroDivisionError("by zero"), False, wants_json) == ExitCode.BUG
    said = capsys.readouterr()
    text = json.loads(said.out)["error"]["hint"] if wants_json else said.err
    assert "could not be written down" in text and "--debug" in text
