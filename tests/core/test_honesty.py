"""What takes strength from tests is found, and what does not is left alone."""

import time
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core.honesty.compare import Version, Weakening
from agentq.core.honesty.judge import review
from agentq.core.honesty.shape import MAX_BYTES

GLOBS = ("**/test_*", "**/*_test.*", "**/*.test.*", "**/*.spec.*", "**/*_spec.*", "**/*Test.*")

PY = """import pytest


def total(items):
    return sum(items)


def test_total():
    items = [1, 2, 3]
    assert total(items) == 6
    assert total([]) == 0


@pytest.mark.parametrize("a, b", [(1, 2), (2, 4), (3, 6)])
def test_double(a, b):
    assert a * 2 == b


def test_raises():
    with pytest.raises(ValueError, match="no number"):
        int_of("x")


def test_near():
    assert ratio() == pytest.approx(0.5, abs=0.01)


class TestGroup:
    def test_in_group(self):
        found = find("x")
        assert found is not None
        assert found.name == "x"
        assert "y" in found.names
"""

UNIT = """import unittest


class UserTest(unittest.TestCase):
    def test_name(self):
        user = make()
        self.assertEqual(user.name, "ann")
        self.assertTrue(user.active)

    def test_bad(self):
        with self.assertRaises(KeyError):
            make("no")
"""

JS = """import { total, find } from '../src/total';

describe('total', () => {
  it('adds', () => {
    const items = [1, 2, 3];
    expect(total(items)).toBe(6);
    expect(total([])).toEqual(0);
  });

  it('finds', async () => {
    const found = await find('x');
    expect(found).toEqual({ name: 'x', tags: ['a', 'b'] });
    expect(() => find(null)).toThrow('no name');
    expect(ratio()).toBeCloseTo(0.5, 5);
  });

  it.each([[1, 2], [2, 4], [3, 6]])('doubles %i', (a, b) => {
    expect(double(a)).toBe(b);
  });
});
"""

GO = """package total

import "testing"

func TestTotal(t *testing.T) {
	got := Total([]int{1, 2})
	if got != 3 {
		t.Errorf("got %d", got)
	}
}

func TestTable(t *testing.T) {
	tests := []struct{ in, want int }{
		{1, 2},
		{2, 4},
		{3, 6},
	}
	for _, tt := range tests {
		if Double(tt.in) != tt.want {
			t.Fatal("wrong")
		}
	}
}
"""

RUST = """pub fn total(a: i32, b: i32) -> i32 { a + b }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds() {
        assert_eq!(total(1, 2), 3);
        assert!(total(0, 0) == 0);
    }

    #[test]
    #[should_panic(expected = "overflow")]
    fn panics() {
        total(i32::MAX, 1);
    }
}
"""

RUBY = """class TotalTest < Minitest::Test
  def test_adds
    got = total([1, 2])
    assert_equal 3, got
    assert got.positive?
  end

  def test_nil
    assert_nil total(nil)
  end
end
"""

JAVA = """class TotalTest {
    @Test
    void adds() {
        int got = total(1, 2);
        assertEquals(3, got);
    }

    @Test
    void empty() {
        assertTrue(list().isEmpty());
    }
}
"""

PHP = """<?php
class TotalTest extends TestCase
{
    public function testAdds(): void
    {
        $got = total(1, 2); # adds
        $this->assertSame(3, $got);
        $this->assertCount(2, parts());
    }
}
"""

PYPROJECT = """[tool.pytest.ini_options]
addopts = "-ra --strict-markers"
testpaths = ["tests", "integration"]
filterwarnings = ["error"]

[tool.coverage.report]
fail_under = 90

[tool.mypy]
strict = true

[tool.ruff.lint]
select = ["E", "F", "B"]
"""

PACKAGE = """{
  "name": "x",
  "scripts": { "test": "vitest run", "lint": "eslint .", "build": "tsc" },
  "jest": { "coverageThreshold": { "global": { "lines": 80 } } }
}
"""

WORKFLOW = """on:
  push:
jobs:
  test:
    steps:
      - run: pytest
      - run: mypy
"""

TSCONFIG = '{\n  // strict\n  "compilerOptions": { "strict": true, "target": "es2022", },\n}\n'
ESLINT = "export default [{ rules: { 'no-eval': 'error', 'eqeqeq': 'warn' } }];\n"
MAKEFILE = "test:\n\tpytest -q\n\nlint:\n\truff check .\n"


class Row(NamedTuple):
    """One edit of a file: what is put in the place of what. `kind`: what must be found; '' nothing."""

    name: str
    path: str
    text: str
    old: str
    new: str
    kind: str = ""


def edited(row: Row) -> Version:
    assert row.old in row.text, row.name
    new = row.text.replace(row.old, row.new, 1)
    assert new != row.text, row.name
    return Version(row.path, row.text.encode(), new.encode())


def stops(*versions: Version) -> list[Weakening]:
    return [one for one in review(versions, GLOBS, ("pytest", "npm test")) if one.stops]


T, U, J, G, R, B, V, P = (
    "tests/test_total.py", "tests/test_user.py", "src/total.test.ts", "total_test.go", "src/lib.rs",
    "test/total_test.rb", "src/TotalTest.java", "tests/TotalTest.php",
)  # fmt: skip

WEAKENINGS = [
    # Python: removed
    Row("a test is gone", T, PY, "def test_total():\n    items = [1, 2, 3]\n    assert total(items) == 6\n    assert total([]) == 0\n", "", "removed"),
    Row("a test is renamed so that it is not run", T, PY, "def test_total():", "def check_total():", "removed"),
    Row("a test gets an underscore", T, PY, "def test_total():", "def _test_total():", "removed"),
    Row("a class is renamed so that it is not run", T, PY, "class TestGroup:", "class Group:", "removed"),
    Row("a class gets an __init__", T, PY, "class TestGroup:\n", "class TestGroup:\n    def __init__(self):\n        pass\n\n", "removed"),
    Row("a test is put below if False", T, PY, "def test_total():\n    items = [1, 2, 3]\n    assert total(items) == 6\n    assert total([]) == 0\n", "if False:\n    def test_total():\n        items = [1, 2, 3]\n        assert total(items) == 6\n        assert total([]) == 0\n", "removed"),
    Row("a test is deleted after its definition", T, PY, "class TestGroup:", "del test_total\n\n\nclass TestGroup:", "removed"),
    Row("a test's name is taken by something else", T, PY, "class TestGroup:", "test_total = None\n\n\nclass TestGroup:", "removed"),
    Row("a test is a fixture now", T, PY, "def test_total():", "@pytest.fixture\ndef test_total():", "removed"),
    Row("a test is a comment now", T, PY, "def test_raises():\n    with pytest.raises(ValueError, match=\"no number\"):\n        int_of(\"x\")\n", "# def test_raises():\n#    int_of('x')\n", "removed"),
    Row("the file says nothing any more", T, PY, PY, "\n", "removed"),
    # Python: skipped
    Row("mark.skip", T, PY, "def test_total():", "@pytest.mark.skip(reason='slow')\ndef test_total():", "skipped"),
    Row("mark.skipif", T, PY, "def test_total():", "@pytest.mark.skipif(True, reason='x')\ndef test_total():", "skipped"),
    Row("mark.xfail", T, PY, "def test_total():", "@pytest.mark.xfail\ndef test_total():", "skipped"),
    Row("unittest.skip", U, UNIT, "    def test_name", "    @unittest.skip('later')\n    def test_name", "skipped"),
    Row("a class is skipped", U, UNIT, "class UserTest", "@unittest.skipIf(1, 'x')\nclass UserTest", "skipped"),
    Row("pytest.skip at the start", T, PY, "    items = [1, 2, 3]\n", "    pytest.skip('later')\n    items = [1, 2, 3]\n", "skipped"),
    Row("importorskip at the start", T, PY, "def total(", "np = pytest.importorskip('nothing')\n\n\ndef total(", "skipped"),
    Row("self.skipTest", U, UNIT, "        user = make()\n", "        self.skipTest('x')\n        user = make()\n", "skipped"),
    Row("raise SkipTest", U, UNIT, "        user = make()\n", "        raise unittest.SkipTest('x')\n        user = make()\n", "skipped"),
    Row("pytestmark", T, PY, "def total(", "pytestmark = pytest.mark.skip\n\n\ndef total(", "skipped"),
    Row("pytestmark in a list", T, PY, "def total(", "pytestmark = [pytest.mark.slow, pytest.mark.xfail(run=False)]\n\n\ndef total(", "skipped"),
    Row("__test__ = False", T, PY, "class TestGroup:\n", "class TestGroup:\n    __test__ = False\n\n", "skipped"),
    Row("a row is marked", T, PY, "(2, 4)", "pytest.param(2, 4, marks=pytest.mark.skip)", "skipped"),
    Row("collect_ignore", "tests/conftest.py", "import os\n", "import os\n", "import os\n\ncollect_ignore = ['test_total.py']\n", "skipped"),
    Row("collect_ignore_glob", "tests/conftest.py", "import os\n", "import os\n", "import os\n\ncollect_ignore_glob = ['*_total.py']\n", "skipped"),
    Row("a hook picks the tests", "conftest.py", "import os\n", "import os\n", "def pytest_collection_modifyitems(items):\n    items[:] = []\n", "skipped"),
    Row("a hook reports success", "conftest.py", "import os\n", "import os\n", "def pytest_runtest_makereport(item, call):\n    return None\n", "skipped"),
    Row("the run ends with success", "conftest.py", "import os\n", "import os\n", "import os\nos._exit(0)\n", "skipped"),
    Row("a fixture skips", "conftest.py", "import os\n", "import os\n", "import pytest\n\n@pytest.fixture(autouse=True)\ndef _all():\n    pytest.skip('x')\n", "skipped"),
    Row("the run ends in a setting", "conftest.py", "import os\n", "import os\n", "import sys\nsys.exit(0)\n", "skipped"),
    Row("the run is left", "conftest.py", "import os\n", "import os\n", "raise SystemExit(0)\n", "skipped"),
    Row("a plugin", "conftest.py", "import os\n", "import os\n", "pytest_plugins = ['quiet']\n", "skipped"),
    Row("setUp skips", U, UNIT, "    def test_name", "    def setUp(self):\n        self.skipTest('x')\n\n    def test_name", "skipped"),
    # Python: weakened
    Row("an assertion is gone", T, PY, "    assert total([]) == 0\n", "", "weakened"),
    Row("all assertions are gone", T, PY, "    assert total(items) == 6\n    assert total([]) == 0\n", "    total(items)\n", "weakened"),
    Row("return before the assertions", T, PY, "    items = [1, 2, 3]\n", "    return\n    items = [1, 2, 3]\n", "weakened"),
    Row("if False around the assertions", T, PY, "    assert total([]) == 0\n", "    if False:\n        assert total([]) == 0\n", "weakened"),
    Row("a loop over nothing", T, PY, "    assert total([]) == 0\n", "    for _ in []:\n        assert total([]) == 0\n", "weakened"),
    Row("assert True", T, PY, "assert total(items) == 6", "assert True", "weakened"),
    Row("assert a tuple", T, PY, "assert total(items) == 6", "assert (total(items) == 6, 'total')", "weakened"),
    Row("compared with itself", T, PY, "assert total(items) == 6", "assert items == items", "weakened"),
    Row("a helper that checks nothing", T, PY, "def test_total():\n    items = [1, 2, 3]\n    assert total(items) == 6\n", "def check_total(items, want):\n    total(items)\n\n\ndef test_total():\n    items = [1, 2, 3]\n    check_total(items, 6)\n", "weakened"),
    Row("or True", T, PY, "assert total(items) == 6", "assert total(items) == 6 or True", "weakened"),
    Row("or something else", T, PY, "assert total(items) == 6", "assert total(items) == 6 or items", "weakened"),
    Row("== to >=", T, PY, "assert total(items) == 6", "assert total(items) >= 6", "weakened"),
    Row("== to in", T, PY, "assert total(items) == 6", "assert total(items) in (5, 6, 7)", "weakened"),
    Row("== to !=", T, PY, "assert total(items) == 6", "assert total(items) != 7", "weakened"),
    Row("== to truth", T, PY, "assert total(items) == 6", "assert total(items)", "weakened"),
    Row("== to is not None", T, PY, "assert total(items) == 6", "assert total(items) is not None", "weakened"),
    Row("== to isinstance", T, PY, "assert total(items) == 6", "assert isinstance(total(items), int)", "weakened"),
    Row("== to a wide approx", T, PY, "assert total(items) == 6", "assert total(items) == pytest.approx(6, abs=2)", "weakened"),
    Row("a wider tolerance", T, PY, "abs=0.01", "abs=0.5", "weakened"),
    Row("half of an and", T, PY.replace("assert total([]) == 0", "assert total([]) == 0 and items"), "assert total([]) == 0 and items", "assert items", "weakened"),
    Row("any exception will do", T, PY, "pytest.raises(ValueError, match=\"no number\")", "pytest.raises(Exception)", "weakened"),
    Row("any message will do", T, PY, ", match=\"no number\"", "", "weakened"),
    Row("swallowed", T, PY, "    assert total([]) == 0\n", "    try:\n        assert total([]) == 0\n    except AssertionError:\n        pass\n", "weakened"),
    Row("suppressed", T, PY, "    assert total([]) == 0\n", "    with contextlib.suppress(Exception):\n        assert total([]) == 0\n", "weakened"),
    Row("a second definition of nothing", T, PY, "class TestGroup:", "def test_total():\n    pass\n\n\nclass TestGroup:", "weakened"),
    Row("only on a condition", T, PY, "    with pytest.raises(ValueError, match=\"no number\"):\n        int_of(\"x\")\n", "    if os.environ.get('FULL'):\n        with pytest.raises(ValueError, match=\"no number\"):\n            int_of(\"x\")\n", "weakened"),
    Row("leaves early on a condition", T, PY, "    items = [1, 2, 3]\n", "    if not os.environ.get('FULL'):\n        return\n    items = [1, 2, 3]\n", "weakened"),
    Row("a row is gone", T, PY, ", (3, 6)", "", "weakened"),
    Row("assertEqual to assertTrue", U, UNIT, 'self.assertEqual(user.name, "ann")', "self.assertTrue(user.name)", "weakened"),
    Row("assertEqual to assertIn", U, UNIT, 'self.assertEqual(user.name, "ann")', 'self.assertIn(user.name, ["ann", "bob"])', "weakened"),
    Row("assertRaises of everything", U, UNIT, "assertRaises(KeyError)", "assertRaises(Exception)", "weakened"),
    Row("assertTrue(True)", U, UNIT, "self.assertTrue(user.active)", "self.assertTrue(True)", "weakened"),
    Row("no Python any more", T, PY, "def test_total():", "def test_total(:", "unreadable"),
    # JavaScript
    Row("js: a test is gone", J, JS, "  it('adds', () => {\n    const items = [1, 2, 3];\n    expect(total(items)).toBe(6);\n    expect(total([])).toEqual(0);\n  });\n", "", "removed"),
    Row("js: in a comment", J, JS, JS, JS.replace("describe", "/* describe").replace("});\n});", "});\n}); */\n"), "removed"),
    Row("js: in a template", J, JS, JS, JS.replace("describe(", "const x = `describe(").replace("});\n});", "});\n});`;"), "removed"),
    Row("js: it.skip", J, JS, "it('adds'", "it.skip('adds'", "skipped"),
    Row("js: xit", J, JS, "it('adds'", "xit('adds'", "skipped"),
    Row("js: xdescribe", J, JS, "describe(", "xdescribe(", "skipped"),
    Row("js: describe.skip", J, JS, "describe(", "describe.skip(", "skipped"),
    Row("js: it.todo", J, JS, "it('adds', () => {", "it.todo('adds'); (() => {", "skipped"),
    Row("js: it.only", J, JS, "it('adds'", "it.only('adds'", "skipped"),
    Row("js: fdescribe", J, JS, "describe(", "fdescribe(", "skipped"),
    Row("js: this.skip()", J, JS, "const items", "this.skip(); const items", "skipped"),
    Row("js: test.skipIf", J, JS, "it('adds'", "it.skipIf(process.env.CI)('adds'", "skipped"),
    Row("js: process.exit", J, JS, "describe(", "process.exit(0);\ndescribe(", "skipped"),
    Row("js: toBe to toBeTruthy", J, JS, "toBe(6)", "toBeTruthy()", "weakened"),
    Row("js: toEqual to toBeDefined", J, JS, "toEqual({ name: 'x', tags: ['a', 'b'] })", "toBeDefined()", "weakened"),
    Row("js: toEqual to toMatchObject", J, JS, "toEqual({ name: 'x', tags: ['a', 'b'] })", "toMatchObject({ name: 'x' })", "weakened"),
    Row("js: toEqual to anything", J, JS, "toEqual({ name: 'x', tags: ['a', 'b'] })", "toEqual(expect.anything())", "weakened"),
    Row("js: expect(true)", J, JS, "expect(total(items)).toBe(6)", "expect(true).toBe(true)", "weakened"),
    Row("js: an expectation is gone", J, JS, "    expect(total([])).toEqual(0);\n", "", "weakened"),
    Row("js: an expectation without matcher", J, JS, "expect(total([])).toEqual(0)", "expect(total([]))", "weakened"),
    Row("js: a weak expectation without matcher", J, JS.replace("toBe(6)", "toBeTruthy()"), ".toBeTruthy()", "", "weakened"),
    Row("js: a helper that checks nothing", J, JS, "expect(total(items)).toBe(6);", "expectTotal(items, 6);\n    function expectTotal(a, b) { total(a); }", "weakened"),
    Row("js: any error will do", J, JS, "toThrow('no name')", "toThrow()", "weakened"),
    Row("js: fewer digits", J, JS, "toBeCloseTo(0.5, 5)", "toBeCloseTo(0.5, 0)", "weakened"),
    Row("js: return first", J, JS, "    const items", "    return;\n    const items", "weakened"),
    Row("js: if (false)", J, JS, "expect(total([])).toEqual(0);", "if (false) { expect(total([])).toEqual(0); }", "weakened"),
    Row("js: swallowed", J, JS, "expect(total([])).toEqual(0);", "try { expect(total([])).toEqual(0); } catch (e) {}", "weakened"),
    Row("js: a row is gone", J, JS, ", [3, 6]", "", "weakened"),
    Row("js: brackets that do not match", J, JS, "describe('total', () => {", "describe('total', () => {{", "unreadable"),
    # others
    Row("go: a test is gone", G, GO, "func TestTotal(", "func testTotal(", "removed"),
    Row("go: os.Exit", G, GO, "func TestTotal", "func TestMain(m *testing.M) {\n\tm.Run()\n\tos.Exit(0)\n}\n\nfunc TestTotal", "skipped"),
    Row("go: t.Skip", G, GO, "	got := ", "	t.Skip()\n	got := ", "skipped"),
    Row("go: return first", G, GO, "	got := ", "	return\n	got := ", "weakened"),
    Row("go: no failure any more", G, GO, '		t.Errorf("got %d", got)\n', '		t.Logf("got %d", got)\n', "weakened"),
    Row("go: a row is gone", G, GO, "		{3, 6},\n", "", "weakened"),
    Row("go: not built", G, GO, "package total", "//go:build ignore\n\npackage total", "skipped"),
    Row("rust: a test is gone", R, RUST, "    #[test]\n    fn adds", "    fn adds", "removed"),
    Row("rust: ignore", R, RUST, "    #[test]\n    fn adds", "    #[test]\n    #[ignore]\n    fn adds", "skipped"),
    Row("rust: assert!(true)", R, RUST, "assert_eq!(total(1, 2), 3)", "assert!(true)", "weakened"),
    Row("rust: eq to ne", R, RUST, "assert_eq!(total(1, 2), 3)", "assert_ne!(total(1, 2), 4)", "weakened"),
    Row("rust: any panic will do", R, RUST, '#[should_panic(expected = "overflow")]', "#[should_panic]", "weakened"),
    Row("ruby: a test is gone", B, RUBY, "def test_adds", "def adds", "removed"),
    Row("ruby: skip", B, RUBY, "    got = ", "    skip\n    got = ", "skipped"),
    Row("ruby: an assertion is gone", B, RUBY, "    assert_equal 3, got\n", "", "weakened"),
    Row("ruby: return first", B, RUBY, "    got = ", "    return\n    got = ", "weakened"),
    Row("ruby: assert true", B, RUBY, "assert_equal 3, got", "assert true", "weakened"),
    Row("java: a test is gone", V, JAVA, "    @Test\n    void adds", "    void adds", "removed"),
    Row("java: Disabled", V, JAVA, "    @Test\n    void adds", "    @Disabled(\"x\")\n    @Test\n    void adds", "skipped"),
    Row("java: assertTrue(true)", V, JAVA, "assertEquals(3, got)", "assertTrue(true)", "weakened"),
    Row("java: assertNotNull", V, JAVA, "assertEquals(3, got)", "assertNotNull(got)", "weakened"),
    Row("php: a test is gone", P, PHP, "function testAdds", "function adds", "removed"),
    Row("php: skipped", P, PHP, "        $got =", "        $this->markTestSkipped();\n        $got =", "skipped"),
    Row("php: an assertion is gone", P, PHP, "        $this->assertSame(3, $got);\n", "", "weakened"),
    # settings
    Row("--ignore", "pyproject.toml", PYPROJECT, "-ra --strict-markers", "-ra --strict-markers --ignore=tests/test_total.py", "settings"),
    Row("--deselect", "pyproject.toml", PYPROJECT, "-ra --strict-markers", "-ra --strict-markers --deselect tests/test_total.py::test_x", "settings"),
    Row("-p", "pytest.ini", "[pytest]\naddopts = -ra\n", "-ra", "-ra -p quiet", "settings"),
    Row("-k", "pytest.ini", "[pytest]\naddopts = -ra\n", "-ra", "-ra -k 'not total'", "settings"),
    Row("no strict markers", "pyproject.toml", PYPROJECT, " --strict-markers", "", "settings"),
    Row("fewer testpaths", "pyproject.toml", PYPROJECT, ', "integration"', "", "settings"),
    Row("other files are tests", "setup.cfg", "[tool:pytest]\naddopts = -ra\n", "addopts", "python_files = check_*.py\naddopts", "settings"),
    Row("norecursedirs", "tox.ini", "[pytest]\naddopts = -ra\n", "addopts", "norecursedirs = integration\naddopts", "settings"),
    Row("warnings are errors no more", "pyproject.toml", PYPROJECT, 'filterwarnings = ["error"]\n', "", "settings"),
    Row("fail_under", "pyproject.toml", PYPROJECT, "fail_under = 90", "fail_under = 50", "settings"),
    Row("no fail_under", "pyproject.toml", PYPROJECT, "fail_under = 90\n", "", "settings"),
    Row("--cov-fail-under", "pytest.ini", "[pytest]\naddopts = --cov-fail-under=90\n", "90", "10", "settings"),
    Row("mypy strict", "pyproject.toml", PYPROJECT, "strict = true", "strict = false", "settings"),
    Row("mypy ignores errors", "pyproject.toml", PYPROJECT, "strict = true", "strict = true\nignore_errors = true", "settings"),
    Row("ruff selects less", "pyproject.toml", PYPROJECT, ', "B"', "", "settings"),
    Row("ruff ignores all", "pyproject.toml", PYPROJECT, 'select =', 'ignore = ["ALL"]\nselect =', "settings"),
    Row("the test script is nothing", "package.json", PACKAGE, "vitest run", "exit 0", "settings"),
    Row("the test script passes anyway", "package.json", PACKAGE, "vitest run", "vitest run || true", "settings"),
    Row("the lint script is gone", "package.json", PACKAGE, '"lint": "eslint .", ', "", "settings"),
    Row("the threshold is lower", "package.json", PACKAGE, '"lines": 80', '"lines": 8', "settings"),
    Row("tsc is not strict", "tsconfig.json", TSCONFIG, '"strict": true', '"strict": false', "settings"),
    Row("an eslint rule is off", "eslint.config.js", ESLINT, "'error'", "'off'", "settings"),
    Row("CI goes on after an error", ".github/workflows/ci.yml", WORKFLOW, "- run: pytest", "- run: pytest\n        continue-on-error: true", "settings"),
    Row("CI passes anyway", ".github/workflows/ci.yml", WORKFLOW, "run: pytest", "run: pytest || true", "settings"),
    Row("CI does not test", ".github/workflows/ci.yml", WORKFLOW, "      - run: pytest\n", "", "settings"),
    Row("make goes on after an error", "Makefile", MAKEFILE, "\tpytest -q", "\t-pytest -q", "settings"),
    Row("make does not lint", "Makefile", MAKEFILE, "\truff check .\n", "\ttrue\n", "settings"),
]  # fmt: skip


@pytest.mark.parametrize("row", WEAKENINGS, ids=lambda row: row.name)
def test_a_weakening_is_found(row: Row) -> None:
    found = stops(edited(row))
    assert row.kind in {one.kind for one in found}, found
    assert all(one.path == row.path for one in found)


HARMLESS = [
    Row("a test is renamed", T, PY, "def test_total():", "def test_sum_of_numbers():"),
    Row("a test is renamed and strengthened", T, PY, "def test_total():\n    items = [1, 2, 3]\n", "def test_sum():\n    items = [1, 2, 3]\n    assert total([5]) == 5\n"),
    Row("a class is renamed", T, PY, "class TestGroup:", "class TestSomeGroup:"),
    Row("a test leaves its class", T, PY, "class TestGroup:\n    def test_in_group(self):\n        found = find(\"x\")\n        assert found is not None\n        assert found.name == \"x\"\n        assert \"y\" in found.names\n", "def test_in_group():\n    found = find(\"x\")\n    assert found is not None\n    assert found.name == \"x\"\n    assert \"y\" in found.names\n"),
    Row("another order", T, PY, PY, PY[PY.index("def test_raises"):] + "\n\n" + PY[:PY.index("def test_raises")]),
    Row("an assertion more", T, PY, "    assert total([]) == 0\n", "    assert total([]) == 0\n    assert total([7]) == 7\n"),
    Row("a test more", T, PY, "class TestGroup:", "def test_more():\n    assert total([1]) == 1\n\n\nclass TestGroup:"),
    Row("a new test that is skipped", T, PY, "class TestGroup:", "@pytest.mark.skip(reason='needs a server')\ndef test_more():\n    assert total([1]) == 1\n\n\nclass TestGroup:"),
    Row("a row more", T, PY, "(3, 6)", "(3, 6), (4, 8)"),
    Row("rows by name", T, PY, '@pytest.mark.parametrize("a, b", [(1, 2), (2, 4), (3, 6)])', 'ROWS = [(1, 2), (2, 4), (3, 6)]\n\n\n@pytest.mark.parametrize("a, b", ROWS)'),
    Row("rows in a tuple", T, PY, "[(1, 2), (2, 4), (3, 6)]", "((1, 2), (2, 4), (3, 6))"),
    Row("rows in two tests", T, PY, '@pytest.mark.parametrize("a, b", [(1, 2), (2, 4), (3, 6)])\ndef test_double(a, b):\n    assert a * 2 == b\n', '@pytest.mark.parametrize("a, b", [(1, 2)])\ndef test_double(a, b):\n    assert a * 2 == b\n\n\n@pytest.mark.parametrize("a, b", [(2, 4), (3, 6)])\ndef test_double_large(a, b):\n    assert a * 2 == b\n'),
    Row("a test becomes two", T, PY, "    assert total(items) == 6\n    assert total([]) == 0\n", "    assert total(items) == 6\n\n\ndef test_nothing():\n    assert total([]) == 0\n"),
    Row("assertions move into a helper", T, PY, "def test_total():\n    items = [1, 2, 3]\n    assert total(items) == 6\n    assert total([]) == 0\n", "def _sums(items):\n    assert total(items) == 6\n    assert total([]) == 0\n\n\ndef test_total():\n    _sums([1, 2, 3])\n"),
    Row("an assertion moves into a fixture", T, PY, "def test_total():\n    items = [1, 2, 3]\n    assert total(items) == 6\n    assert total([]) == 0\n", "@pytest.fixture\ndef items():\n    assert total([]) == 0\n    return [1, 2, 3]\n\n\ndef test_total(items):\n    assert total(items) == 6\n"),
    Row("a helper from elsewhere", T, PY, "    assert total(items) == 6\n", "    support.check_total(items, 6)\n"),
    Row("a helper is handed on", T, PY, "    assert total(items) == 6\n", "    yield adds_up, items, 6\n\n\ndef adds_up(items, want):\n    assert total(items) == want\n\n\ndef test_nothing():\n"),
    Row("a mark of another module", T, PY.replace("def test_total", "@unittest2.skip\ndef test_total"), "unittest2.skip", "unittest.skip"),
    Row("assertions become rows", T, PY, "def test_total():\n    items = [1, 2, 3]\n    assert total(items) == 6\n    assert total([]) == 0\n", "@pytest.mark.parametrize('items, want', [([1, 2, 3], 6), ([], 0)])\ndef test_total(items, want):\n    assert total(items) == want\n"),
    Row("assertions become a loop", T, PY, "    items = [1, 2, 3]\n    assert total(items) == 6\n    assert total([]) == 0\n", "    for items, want in [([1, 2, 3], 6), ([], 0)]:\n        assert total(items) == want\n"),
    Row("two assertions become one", T, PY, "    assert total(items) == 6\n    assert total([]) == 0\n", "    assert (total(items), total([])) == (6, 0)\n"),
    Row("an and becomes two", T, PY.replace("assert total([]) == 0", "assert total([]) == 0 and items"), "    assert total([]) == 0 and items\n", "    assert total([]) == 0\n    assert items\n"),
    Row("another expectation", T, PY, "assert total(items) == 6", "assert total(items) == 7"),
    Row("another exception", T, PY, "ValueError", "TypeError"),
    Row("another message", T, PY, "no number", "not a number"),
    Row("a tighter tolerance", T, PY, "abs=0.01", "abs=0.001"),
    Row("== to approx of floating point", T, PY, "assert total(items) == 6", "assert total(items) == pytest.approx(6)"),
    Row("== to a falsy check", T, PY, "assert total([]) == 0", "assert not total([])"),
    Row("in to ==", T, PY, 'assert "y" in found.names', 'assert found.names == ["y"]'),
    Row("is not None goes for a better one", T, PY, "assert found is not None", 'assert isinstance(found, Thing)'),
    Row("a message for people", T, PY, "assert total(items) == 6", 'assert total(items) == 6, f"of {items}"'),
    Row("other names", T, PY, "    items = [1, 2, 3]\n    assert total(items) == 6", "    numbers = [1, 2, 3]\n    assert total(numbers) == 6"),
    Row("a docstring", T, PY, "def test_total():\n", 'def test_total():\n    """Sums."""\n'),
    Row("a mark that skips nothing", T, PY, "def test_total():", "@pytest.mark.slow\ndef test_total():"),
    Row("a with around it", T, PY, "    assert total([]) == 0\n", "    with freeze():\n        assert total([]) == 0\n"),
    Row("a try that ends well", T, PY, "    assert total([]) == 0\n", "    try:\n        assert total([]) == 0\n    finally:\n        close()\n"),
    Row("a try that speaks", T, PY, "    assert total([]) == 0\n", "    try:\n        assert total([]) == 0\n    except AssertionError:\n        print('x')\n        raise\n"),
    Row("layout", T, PY, "    assert total(items) == 6\n", "    assert (\n        total(\n            items,\n        )\n        == 6\n    )  # six\n"),
    Row("windows line ends", T, PY, PY, PY.replace("\n", "\r\n")),
    Row("unittest to pytest", U, UNIT, UNIT, "import pytest\n\n\nclass TestUser:\n    def test_name(self):\n        user = make()\n        assert user.name == 'ann'\n        assert user.active\n\n    def test_bad(self):\n        with pytest.raises(KeyError):\n            make('no')\n"),
    Row("assertTrue to assertEqual", U, UNIT, "self.assertTrue(user.active)", "self.assertEqual(user.active, True)"),
    Row("assertTrue of == to assertEqual", U, UNIT.replace('assertEqual(user.name, "ann")', 'assertTrue(user.name == "ann")'), 'assertTrue(user.name == "ann")', 'assertEqual(user.name, "ann")'),
    Row("a new fixture", "tests/conftest.py", "import os\n", "import os\n", "import os\nimport pytest\n\n\n@pytest.fixture\ndef user():\n    return 1\n"),
    Row("a helper file changes", "tests/support/make.py", "def make():\n    return 1\n", "return 1", "return 2"),
    Row("a program's end", T, PY, "class TestGroup", "if __name__ == '__main__':\n    sys.exit(pytest.main())\n\n\nclass TestGroup"),
    Row("a program is no test", "src/total.py", PY, "    return sum(items)", "    return 0"),
    # JavaScript
    Row("js: a test is renamed", J, JS, "it('adds'", "it('sums'"),
    Row("js: it to test", J, JS, "it('adds'", "test('adds'"),
    Row("js: a group is renamed", J, JS, "describe('total'", "describe('the total'"),
    Row("js: an expectation more", J, JS, "expect(total([])).toEqual(0);", "expect(total([])).toEqual(0);\n    expect(total([4])).toBe(4);"),
    Row("js: toBe to toEqual", J, JS, "toBe(6)", "toEqual(6)"),
    Row("js: quotes and semicolons", J, JS, "    expect(total(items)).toBe(6);\n", "    expect(\n      total(items),\n    ).toBe(6)\n"),
    Row("js: another expectation", J, JS, "toBe(6)", "toBe(7)"),
    Row("js: a row more", J, JS, "[3, 6]]", "[3, 6], [4, 8]]"),
    Row("js: another message", J, JS, "toThrow('no name')", "toThrow('a name is missing')"),
    Row("js: more digits", J, JS, "toBeCloseTo(0.5, 5)", "toBeCloseTo(0.5, 8)"),
    Row("js: a regular expression with brackets", J, JS, "    const items = [1, 2, 3];\n", "    const items = [1, 2, 3];\n    const re = /[{(]'`/;\n"),
    Row("js: a comment that skips", J, JS, "    const items", "    // it.skip('adds'\n    const items"),
    Row("js: a string that skips", J, JS, "    const items", "    log(\"it.only('x', () => {\");\n    const items"),
    Row("js: a template with braces", J, JS, "    const items", "    log(`a ${b ? `}` : '{'} c`);\n    const items"),
    Row("js: an array takes more", J, JS, "expect(found).toEqual({ name: 'x', tags: ['a', 'b'] });", "expect(found.name).toBe('x');\n    expect(found.tags).toEqual(['a', 'b']);"),
    Row("js: test of a regular expression", J, JS, "    const items", "    if (/x/.test('y')) log();\n    const items"),
    # others
    Row("go: a panic that is no check", G, GO + "\nfunc request() int {\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\treturn 1\n}\n\nfunc TestRequest(t *testing.T) {\n\tif request() != 1 {\n\t\tt.Fatal()\n\t}\n}\n", "\tif err != nil {\n\t\tpanic(err)\n\t}\n", ""),
    Row("go: another name", G, GO, "TestTotal", "TestTotalOfNumbers"),
    Row("go: a row more", G, GO, "{3, 6},", "{3, 6},\n\t\t{4, 8},"),
    Row("go: another message", G, GO, '"got %d"', '"got %d, want 3"'),
    Row("go: Errorf to Fatalf", G, GO, "t.Errorf", "t.Fatalf"),
    Row("rust: an assertion more", R, RUST, "assert!(total(0, 0) == 0);", "assert!(total(0, 0) == 0);\n        assert_eq!(total(1, 1), 2);"),
    Row("rust: assert! to assert_eq!", R, RUST, "assert!(total(0, 0) == 0)", "assert_eq!(total(0, 0), 0)"),
    Row("ruby: a test is renamed", B, RUBY, "test_adds", "test_sums"),
    Row("ruby: another expectation", B, RUBY, "assert_equal 3", "assert_equal 4"),
    Row("java: another expectation", V, JAVA, "assertEquals(3", "assertEquals(4"),
    Row("java: public", V, JAVA, "    void adds", "    public void adds"),
    Row("php: a comment", P, PHP, "# adds", "# it's {"),
    # settings
    Row("a dependency", "pyproject.toml", PYPROJECT, "[tool.pytest", '[project]\nname = "x"\ndependencies = ["a"]\n\n[tool.pytest'),
    Row("more testpaths", "pyproject.toml", PYPROJECT, '"integration"', '"integration", "more"'),
    Row("a higher threshold", "pyproject.toml", PYPROJECT, "fail_under = 90", "fail_under = 95"),
    Row("more rules", "pyproject.toml", PYPROJECT, '"B"', '"B", "UP"'),
    Row("one rule is ignored", "pyproject.toml", PYPROJECT, "select =", 'ignore = ["E501"]\nselect ='),
    Row("a marker", "pyproject.toml", PYPROJECT, "testpaths", 'markers = ["slow"]\ntestpaths'),
    Row("-q", "pyproject.toml", PYPROJECT, "-ra --strict-markers", "-q -ra --strict-markers"),
    Row("a script more", "package.json", PACKAGE, '"build": "tsc"', '"build": "tsc -b", "test:watch": "vitest"'),
    Row("another target", "tsconfig.json", TSCONFIG, "es2022", "es2023"),
    Row("a rule more", "eslint.config.js", ESLINT, "'no-eval': 'error'", "'no-eval': 'error', 'no-var': 'error'"),
    Row("another step", ".github/workflows/ci.yml", WORKFLOW, "      - run: mypy", "      - run: mypy\n      - run: ruff check ."),
    Row("quiet", "Makefile", MAKEFILE, "pytest -q", "pytest -q -x"),
]  # fmt: skip


@pytest.mark.parametrize("row", HARMLESS, ids=lambda row: row.name)
def test_what_is_harmless_is_left_alone(row: Row) -> None:
    assert stops(edited(row)) == []


# ---------------------------------------------------------------- over several files


def version(path: str, old: str | None, new: str | None, **more: bool) -> Version:
    return Version(path, None if old is None else old.encode(), None if new is None else new.encode(), **more)


def test_a_file_is_deleted_or_renamed_so_that_it_is_not_run() -> None:
    assert [one.kind for one in stops(version(T, PY, None))] == ["removed"]
    assert "removed all 5 tests" in str(stops(version(T, PY, None))[0])
    found = stops(version(T, PY, None), version("tests/total.py", None, PY))
    assert {one.kind for one in found} == {"removed"} and "not found by the test runner" in str(found[0])
    assert stops(version(J, JS, None), version("src/total.ts", None, JS))[0].kind == "removed"
    assert stops(version(T, PY, PY, link=True))[0].kind == "removed"


def test_a_file_moves_and_is_still_run() -> None:
    assert stops(version(T, PY, None), version("tests/core/test_sum.py", None, PY)) == []
    assert stops(version(J, JS, None), version("src/sum.spec.ts", None, JS)) == []
    half = PY.index("class TestGroup")
    moved = version(T, PY, PY[:half]), version("tests/test_group.py", None, f"import pytest\n\n\n{PY[half:]}")
    assert stops(*moved) == []


def test_a_test_that_moves_and_is_rewritten_is_known_by_its_name() -> None:
    after = "def test_total():\n    basket = Basket.of(3, 4)\n    assert basket.price == 7\n    assert basket.empty() == 0\n"
    before = PY[: PY.index("@pytest.mark.param")]
    assert stops(version(T, before, None), version("tests/test_basket.py", None, after)) == []


def test_a_test_is_replaced_by_others_that_say_as_much() -> None:
    before = "def test_page(client):\n    page = client.get('/summary')\n    assert page.status == 200\n    assert page.lines == 0\n"
    after = (
        "class TestPage:\n    def setup(self, client):\n        self.page = client.get('/summary')\n\n"
        "    def test_status(self):\n        url = '/summary'\n        assert self.client.get(url).status == 200\n\n"
        "    def test_lines(self):\n        assert self.page.lines == 0\n"
    )
    assert stops(version(T, before, after)) == []
    half = after[: after.index("    def test_lines")]
    assert [one.kind for one in stops(version(T, before, half + "    # page lines 0\n"))] == ["removed"]


def test_many_tests_move_at_once() -> None:
    many = suite([f"{one}{two}{three}" for one in "abcdefghij" for two in "klmnopq" for three in "rstu"])
    assert stops(version(T, many, None), version("tests/test_many.py", None, many)) == []


def test_a_move_hides_no_weakening() -> None:
    weaker = PY.replace("assert total(items) == 6", "assert total(items)").replace("test_total", "test_sum")
    assert [one.kind for one in stops(version(T, PY, None), version("tests/test_sum.py", None, weaker))] == [
        "weakened"
    ]


def test_a_like_assertion_elsewhere_does_not_stand_for_a_removed_test() -> None:
    """Checks that stand in many tests (a status of 200) prove nothing about the one that went."""
    web = "def test_{0}(client):\n    page = client.get('/{0}')\n    assert page.status == 200\n\n\n"
    before, after = (
        web.format("a") + web.format("b"),
        web.format("a") + "def test_x(c):\n    assert page.status == 200\n",
    )
    assert [one.kind for one in stops(version(T, before, after))] == ["removed"]


def test_an_assertion_in_a_helper_that_nobody_calls_counts_for_nothing() -> None:
    after = PY.replace("    assert total([]) == 0\n", "").replace(
        "def total(", "def unused():\n    assert total([]) == 0\n\n\ndef total("
    )
    assert [one.kind for one in stops(version(T, PY, after))] == ["weakened"]


def test_an_assertion_in_a_skipped_test_counts_for_nothing() -> None:
    after = (
        PY.replace("    assert total([]) == 0\n", "")
        + "\n@pytest.mark.skip\ndef test_later():\n    assert total([]) == 0\n"
    )
    assert [one.kind for one in stops(version(T, PY, after))] == ["weakened"]


def test_what_is_only_worth_showing_stops_nothing() -> None:
    found = review([version("tests/__snapshots__/a.snap", "1", "2")], GLOBS)
    assert [(one.kind, one.stops) for one in found] == [("expected", False)]
    patched = PY.replace("    items = [1, 2, 3]\n", "    items = [1, 2, 3]\n    mock.patch('total')\n")
    assert [(one.kind, one.stops) for one in review([version(T, PY, patched)], GLOBS)] == [("mocked", False)]


def test_a_language_nobody_reads_is_said_to_be_so() -> None:
    shell = "tests/test_all.sh"
    assert [(one.kind, one.stops) for one in review([version(shell, "make x\n", "make y\n")], GLOBS)] == [
        ("unread", False)
    ]
    assert [one.kind for one in stops(version(shell, "make x\n", None))] == ["removed"]
    assert [one.kind for one in stops(version(shell, "make x\n", "\n"))] == ["removed"]


def test_what_never_was_of_its_language_is_compared_by_lines() -> None:
    old = "def test_a():\n    print 'x'\n    assert f() == 1\n\ndef test_b():\n    assert g() == 2\n"
    assert stops(version(T, old, old.replace("f() == 1", "f() == 3"))) == []
    assert [one.kind for one in stops(version(T, old, old[: old.index("def test_b")]))] == ["removed"]
    assert [one.kind for one in stops(version(T, old, old.replace("    assert g() == 2\n", "    g()\n")))] == [
        "weakened"
    ]
    assert stops(version(J, "it('', () => { expect(a).toBe(1)\n", "it('', () => { expect(a).toBe(1)\n\n")) == []
    assert any(one.kind == "unread" for one in review([version(T, old, f"{old}\n")], GLOBS))


def test_a_name_that_paints_the_terminal_is_shown_clean() -> None:
    path = "tests/test_\x1b[31m\u202e.py"
    text = "def test_a():\n    assert f() == '\x1b[2J'\n".replace("\x1b", "\\x1b")
    found = stops(
        version(path, text, "def test_a():\n    assert f()\n"),
        version("test_b.js", "it('\x1b[2Jx', () => { expect(a).toBe(1) })", ""),
    )
    assert len(found) == 2
    assert not any(mark in str(one) for one in found for mark in ("\x1b", "\u202e"))


def test_settings_that_move_to_another_file_are_kept() -> None:
    old, new = "[mypy]\nstrict = True\n", "[tool.mypy]\nstrict = true\n"
    assert stops(version("setup.cfg", old, None), version("pyproject.toml", "", new)) == []
    assert stops(version("setup.cfg", old, None), version("pyproject.toml", "", "[tool.mypy]\n"))


def test_a_pipeline_that_moves_to_another_service_is_kept() -> None:
    travis, new = "script:\n  - tox\n", "jobs:\n  test:\n    steps:\n      - run: tox\n"
    assert stops(version(".travis.yml", travis, None), version(".github/workflows/ci.yml", None, new)) == []
    assert stops(version(".travis.yml", travis, None))


def test_a_new_settings_file_that_leaves_tests_out_is_found() -> None:
    assert stops(version("pytest.ini", None, "[pytest]\naddopts = --ignore=tests\n"))
    assert stops(version("pytest.ini", None, "[pytest]\naddopts = -ra\n")) == []


# ---------------------------------------------------------------- bounds


HUGE = {
    "too long": "x = 1\n" * (MAX_BYTES // 6 + 1),
    "deep brackets": "(" * 20_000,
    "deep pairs": "(" * 20_000 + ")" * 20_000,
    "deep attributes": "a" + ".b" * 10_000,
    "deep sums": "1" + "+1" * 10_000,
    "deep blocks": "".join(f"{' ' * i}if x:\n" for i in range(150)) + " " * 150 + "pass\n",
    "quotes": "'" * 40_000,
    "backticks": "`${" * 15_000,
    "slashes": "/" * 40_000,
    "stars": "/*" * 20_000,
    "backslashes": "'" + "\\" * 40_000,
    "describes": "describe('a', () => {" * 2_000 + "})" * 2_000,
    "many tests": "".join(f"def test_{i}():\n    assert f({i}) == {i}\n" for i in range(1_500)),
    "angles": "<" * 20_000,
    "nothing": "\0" * 1000,
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("path", [T, J, R, B, P, "pyproject.toml", "package.json", "Makefile"])
def test_whatever_an_agent_writes_is_compared_in_time(path: str, name: str) -> None:
    begin = time.monotonic()
    text = HUGE[name]
    found = stops(version(path, {T: PY, J: JS, G: GO}.get(path, "x = 1\n"), text))
    review([version(path, text, f"{text}\n")], GLOBS)
    assert time.monotonic() - begin < 20
    if path == T and name != "many tests":
        assert {one.kind for one in found} & {"removed", "unreadable"}


def test_a_file_that_is_too_long_is_not_taken_for_fine() -> None:
    found = stops(version(T, PY, PY + "#" * MAX_BYTES))
    assert ("unreadable", True) in {(one.kind, "longer than" in one.text) for one in found}


def test_many_tests_that_all_change_are_compared_in_time() -> None:
    old = "".join(f"def test_a{i}():\n    x = f({i})\n    assert x == {i}\n" for i in range(800))
    new = "".join(f"def test_b{i}():\n    y = g({i}, 1)\n    assert y > {i}\n" for i in range(800))
    begin = time.monotonic()
    assert stops(version(T, old, new))
    assert time.monotonic() - begin < 20


# ---------------------------------------------------------------- properties

_NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True)


def suite(names: list[str], lose: str = "") -> str:
    """Tests with two assertions each; the one called `lose` has lost one."""
    parts = []
    for name in names:
        second = "" if name == lose else f"    assert {name}_two() == {name!r}\n"
        parts.append(f"def test_{name}():\n    value = {name}_one()\n    assert value == {name!r}\n{second}")
    return "\n\n".join(parts)


@settings(max_examples=60, deadline=None)
@given(_NAMES, st.randoms(use_true_random=False), st.integers(0, 6))
def test_any_order_over_any_files_is_fine_and_any_loss_is_found(
    names: list[str], random: object, cut: int
) -> None:
    mixed = list(names)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    here, there = mixed[:cut], mixed[cut:]
    moved = version(T, suite(names), suite(here)), version("tests/test_other.py", None, suite(there))
    assert stops(*moved) == []
    lost = names[0]
    weaker = version(T, suite(names), suite(here, lost)), version("tests/test_other.py", None, suite(there, lost))
    assert {one.kind for one in stops(*weaker)} == {"weakened"}
    without = [name for name in names if name != lost]
    assert {one.kind for one in stops(version(T, suite(names), suite(without)))} == {"removed"}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.sampled_from([T, J, G, R, B, V, P, "pyproject.toml", "package.json", "tox.ini"]))
def test_no_text_makes_it_fall_over(text: str, path: str) -> None:
    review([version(path, PY, text.encode("utf-8", "replace").decode())], GLOBS)
    review([Version(path, text.encode("utf-8", "surrogatepass"), PY.encode())], GLOBS)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(T, PY), (U, UNIT), (J, JS), (G, GO), (R, RUST), (B, RUBY), (V, JAVA), (P, PHP)]), st.data()
)
def test_whoever_cuts_lines_out_never_gains(which: tuple[str, str], data: st.DataObject) -> None:
    """The empty file always counts as less, the same file never."""
    path, text = which
    lines = text.split("\n")
    gone = data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=3))
    cut = "\n".join(line for number, line in enumerate(lines) if number not in gone)
    review([version(path, text, cut)], GLOBS)
    assert stops(version(path, text, text + "\n")) == []
    assert stops(version(path, text, ""))
