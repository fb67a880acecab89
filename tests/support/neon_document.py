"""Neon's own OpenAPI document, fetched with npm and never kept in the repository, and what it says of a request.

`AGENTQ_TEST_CACHE` names the folder it is kept in between runs.
"""

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

PACKAGE, VERSION = "@neondatabase/api-client", "2.7.3"
MEMBER = "package/public-v2-for-users.gen.yaml"
HOST, BASE = "https://console.neon.tech", "/api/v2"


def cache() -> Path:
    default = Path(tempfile.gettempdir()) / f"agentq-test-cache-{os.getuid()}"
    folder = Path(os.environ.get("AGENTQ_TEST_CACHE") or default)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@lru_cache
def document() -> dict[str, Any] | str:
    """The document; or why there is none."""
    path = cache() / f"neon-api-{VERSION}.json"
    with FileLock(str(path) + ".lock"):
        if not path.exists():
            problem = _fetch(path)
            if problem:
                return problem
    return json.loads(path.read_text())


def _fetch(path: Path) -> str:
    """Put the document at `path`; or say why not."""
    import yaml

    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm to fetch Neon's OpenAPI document with"
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--fetch-retries=0", "--fetch-timeout=20000"]
        try:
            done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return f"npm did not fetch {PACKAGE} in time"
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            return f"npm cannot fetch {PACKAGE}: {done.stderr.strip()[-200:]}"
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile(MEMBER)
            assert member is not None
            text = yaml.load(member, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(text, default=str))
    temporary.rename(path)
    return ""


@pytest.fixture(scope="session")
def neon_document() -> dict[str, Any]:
    """Of session scope, so that npm runs with the home of whoever started the tests."""
    found = document()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@lru_cache
def checker() -> "Checker":
    found = document()
    assert isinstance(found, dict)
    return Checker(found)


class Checker:
    """Holds requests and responses against the document. Threads share it."""

    def __init__(self, whole: dict[str, Any]) -> None:
        from openapi_core import Config, OpenAPI

        self._whole = whole
        self._seen: dict[tuple[object, ...], list[str]] = {}
        self._paths = [
            (re.compile(BASE + re.sub(r"\{\w+\}", "[^/]+", path)), item) for path, item in whole["paths"].items()
        ]
        self._api = OpenAPI.from_dict(whole, config=Config(spec_validator_cls=None))

    def request(self, request: Any) -> list[str]:
        """What is wrong with it; [] for nothing. What the document does not name is wrong too."""
        key = (*self._key(request), request.body, request.parameters.header.get("Authorization"))
        if key not in self._seen:
            problems = self._problems(self._api.validate_request, request)
            self._seen[key] = [*problems, *self._unknown(request)]
        return self._seen[key]

    def response(self, request: Any, status: int, body: bytes) -> list[str]:
        from openapi_core.testing import MockResponse

        key = (*self._key(request), status, body)
        if key not in self._seen:
            response = MockResponse(body, status_code=status, content_type="application/json")
            self._seen[key] = self._problems(self._api.validate_response, request, response)
        return self._seen[key]

    @staticmethod
    def _key(request: Any) -> tuple[object, ...]:
        """The same again needs no second look; polls are most of the traffic."""
        return request.method, request.path, tuple(request.parameters.query.items())

    @staticmethod
    def _problems(check: Any, *arguments: Any) -> list[str]:
        from openapi_core.exceptions import OpenAPIError

        try:
            check(*arguments)
        except OpenAPIError as exc:
            cause = exc.__cause__
            details = [str(error.message) for error in getattr(cause, "schema_errors", [])]
            return [f"{type(exc).__name__}: {exc} {cause or ''} {details}"]
        return []

    def _unknown(self, request: Any) -> list[str]:
        operation, item = self._operation(request)
        if operation is None:
            return []
        parameters = [*item.get("parameters", []), *operation.get("parameters", [])]
        queries = {found["name"] for found in map(self._resolve, parameters) if found["in"] == "query"}
        problems = [f"the query has '{name}'" for name in request.parameters.query if name not in queries]
        if request.body:
            content = self._resolve(operation["requestBody"])["content"]["application/json"]["schema"]
            problems += self._strange(json.loads(request.body), content)
        return problems

    def _operation(self, request: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        for pattern, item in self._paths:
            if pattern.fullmatch(request.path) and request.method in item:
                return item[request.method], item
        return None, {}

    def _strange(self, value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
        """Names in a body that the document does not have: it lets them pass, Neon would not look at them."""
        known = self._properties(schema)
        if isinstance(value, list):
            for item in value:
                yield from self._strange(item, self._resolve(schema)["items"])
        elif isinstance(value, dict) and known:
            for name, item in value.items():
                if name not in known:
                    yield f"the body has '{name}'"
                else:
                    yield from self._strange(item, known[name])

    def _properties(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        schema = self._resolve(schema)
        found = dict(schema.get("properties", {}))
        for part in schema.get("allOf", []):
            found |= self._properties(part)
        return found

    def _resolve(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            found: Any = self._whole
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node
