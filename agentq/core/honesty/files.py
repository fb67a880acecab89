"""Which files hold tests, and who can read them."""

import re
from collections.abc import Callable, Sequence

from agentq.core.honesty.braces import read_braced
from agentq.core.honesty.python import read_python
from agentq.core.honesty.ruby import read_ruby
from agentq.core.honesty.script import read_script
from agentq.core.honesty.shape import Shape
from agentq.core.paths import matches_any

# What runners find by themselves.
_RUN = re.compile(
    r"(^|/)(test_[^/]*\.pyi?|[^/]*_tests?\.py|tests?\.py|conftest\.py"
    r"|[^/]*[.\-_](test|tests|spec|specs|cy|e2e)\.([cm]?[jt]sx?)|__tests__/.*\.[cm]?[jt]sx?|(?:tests?|specs?)/[^/]*\.[cm]?[jt]s"
    r"|[^/]*_test\.go|[^/]*_(test|spec)\.rb|test_[^/]*\.rb|[^/]*Tests?\.(java|kt|cs|php|scala|swift|groovy)"
    r"|Test[^/]*\.(java|kt|cs)|[^/]*(IT|Spec)\.(java|kt|groovy|scala)|[^/]*\.rs)$"
)
_NEAR = re.compile(r"(^|/)(tests?|specs?|__tests__|e2e|cypress|testing|testsuite|t)/")
_GOLDEN = re.compile(r"(^|/)(__snapshots__|snapshots?|goldens?|expected)/|\.(snap|ambr|golden|approved\.\w+)$")
_RUST_TEST = re.compile(rb"#\[(\w+::)*(test|rstest|test_case)\b")
_OTHERS = frozenset(
    [
        "sh",
        "bash",
        "bats",
        "feature",
        "ex",
        "exs",
        "erl",
        "clj",
        "cljs",
        "hs",
        "ml",
        "pl",
        "t",
        "lua",
        "dart",
        "r",
        "jl",
        "vue",
        "svelte",
        "sql",
    ]
)
_READERS: dict[str, Callable[[str], Shape]] = {
    **dict.fromkeys(("py", "pyi"), read_python),
    **dict.fromkeys(("js", "jsx", "ts", "tsx", "mjs", "cjs", "mts", "cts"), read_script),
    **{one: read_braced(one) for one in ("go", "rs", "java", "kt", "cs", "php", "scala", "swift", "groovy")},
    "rb": read_ruby,
}


def reader_of(path: str) -> Callable[[str], Shape] | None:
    return _READERS.get(path.rsplit(".", 1)[-1].lower())


def is_run(path: str, globs: Sequence[str]) -> bool:
    """Whether a runner finds the tests of this file: by the project's globs, or by the usual names."""
    return matches_any(tuple(globs), path) or bool(_RUN.search(path))


def is_test(path: str, data: bytes, globs: Sequence[str]) -> bool:
    """Whether a file is read for its tests, or for what helps tests."""
    if reader_of(path) is None:
        return False
    if path.endswith(".rs"):
        return bool(_RUST_TEST.search(data)) or bool(_NEAR.search(path))
    return is_run(path, globs) or bool(_NEAR.search(path))


def is_other(path: str, globs: Sequence[str]) -> bool:
    """Whether the project counts a file among its tests, in a language that nothing here reads."""
    return path.rsplit(".", 1)[-1].lower() in _OTHERS and matches_any(tuple(globs), path)


def is_golden(path: str) -> bool:
    """Whether a file holds what tests expect, word by word."""
    return bool(_GOLDEN.search(path))
