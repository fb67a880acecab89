"""Conflicts in manifests, generated files, migrations, paths and lines."""

import json

from replay import Case, case

IDENTICAL = [
    case("identical", "one line", "a.py", "x = 1\n", "x = 2\n", "x = 2\n", "x = 2\n"),
    Case("identical", "the same new file", {"a": "a"}, {"a": "a", "b.md": "# B\n"}, {"a": "a", "b.md": "# B\n"}, {"b.md": "# B\n"}),
    Case("identical", "both deleted it", {"a": "a", "b": "b"}, {"a": "a"}, {"a": "a"}, {"b": None}),
    case("identical", "one change of several is the same", "a.sql", "1;\n2;\n3;\n4;\n5;\n", "1;\n2;\nX;\n4;\nT;\n", "S;\n2;\nX;\n4;\n5;\n",
         "S;\n2;\nX;\n4;\nT;\n"),
    Case("identical", "of a file git may not merge", {".gitattributes": "*.svg -merge\n", "a.svg": "1"}, {".gitattributes": "*.svg -merge\n", "a.svg": "2"},
         {".gitattributes": "*.svg -merge\n", "a.svg": "2"}, {"a.svg": "2"}),
]  # fmt: skip


def package(indent: int = 2, **keys: object) -> str:
    return json.dumps({"name": "p", **keys}, indent=indent, ensure_ascii=False) + "\n"


DEPS = {"a": "^1.0.0", "m": "^1.0.0"}
PY = '[project]\nname = "p"\nversion = "1"\n# what it needs\ndependencies = [\n  "a>=1",  # the first\n  "m",\n]\n'
INLINE = '[project]\nname = "p"\ndependencies = ["a>=1"]\n\n[tool.x]\ny = 1\n'
CARGO = '[package]\nname = "p"\nversion = "0.1.0"\n\n[dependencies]\nserde = "1"\n'
POETRY = '[tool.poetry]\nname = "p"\n\n[tool.poetry.dependencies]\npython = "^3.11"\n'


def one(name: str, path: str, base: str, trunk: str, spec: str, want: str | None = None) -> Case:
    return Case(
        "manifest", name, {path: base}, {path: trunk}, {path: spec}, None if want is None else {path: want}
    )


MANIFEST = [
    one("npm: two dependencies", "package.json", package(dependencies=DEPS), package(dependencies={**DEPS, "x": "1"}), package(dependencies={**DEPS, "z": "2"}),
        package(dependencies={**DEPS, "x": "1", "z": "2"})),
    one("npm: a script and a dependency at one place", "package.json", package(), package(scripts={"t": "x"}), package(dependencies={"a": "1"}),
        package(dependencies={"a": "1"}, scripts={"t": "x"})),
    one("npm: one removed, one added", "package.json", package(dependencies=DEPS), package(dependencies={"a": "^1.0.0"}), package(dependencies={**DEPS, "z": "2"}),
        package(dependencies={"a": "^1.0.0", "z": "2"})),
    one("npm: tabs and unicode", "package.json", package(4, description="grün"), package(4, description="grün", a="1"), package(4, description="grün", b="1"),
        package(4, description="grün", b="1", a="1")),
    one("npm: CRLF", "package.json", *(t.replace("\n", "\r\n") for t in (package(dependencies=DEPS), package(dependencies={**DEPS, "x": "1"}),
        package(dependencies={**DEPS, "z": "2"}), package(dependencies={**DEPS, "x": "1", "z": "2"})))),
    one("npm: both add the same, and more", "package.json", package(dependencies=DEPS), package(dependencies={**DEPS, "x": "1"}),
        package(dependencies={**DEPS, "x": "1", "z": "2"}), package(dependencies={**DEPS, "x": "1", "z": "2"})),
    one("npm: two versions of one", "package.json", package(dependencies=DEPS), package(dependencies={**DEPS, "a": "^2"}), package(dependencies={**DEPS, "a": "^3"})),
    one("npm: both add it, two versions", "package.json", package(dependencies=DEPS), package(dependencies={**DEPS, "x": "1"}), package(dependencies={**DEPS, "x": "2"})),
    one("npm: in two tables", "package.json", package(dependencies=DEPS, devDependencies={"t": "1"}), package(dependencies={**DEPS, "x": "1"}, devDependencies={"t": "1"}),
        package(dependencies=DEPS, devDependencies={"t": "1", "x": "1"})),
    one("npm: clean for git, one key twice", "package.json", '{\n  "a": 1,\n  "b": 2,\n  "c": 3,\n  "d": 4\n}\n', '{\n  "x": 1,\n  "a": 1,\n  "b": 2,\n  "c": 3,\n  "d": 4\n}\n',
        '{\n  "a": 1,\n  "b": 2,\n  "c": 3,\n  "x": 2,\n  "d": 4\n}\n'),
    one("npm: clean for git and right", "package.json", package(a=1, b=2, c=3, d=4), package(a=0, b=2, c=3, d=4), package(a=1, b=2, c=3, d=5), package(a=0, b=2, c=3, d=5)),
    one("npm: a layout of its own", "package.json", '{"a": {\n "b": 1 }\n}\n', '{"a": {\n "b": 1, "x": 1 }\n}\n', '{"a": {\n "b": 1, "y": 1 }\n}\n'),
    one("npm: a list both changed", "package.json", package(files=["a"]), package(files=["a", "b"]), package(files=["a", "c"])),
    one("npm: a comma too many", "package.json", package(a=1), package(a=2), '{\n  "a": 3,\n}\n'),
    one("python: a list of lines", "pyproject.toml", PY, PY.replace('  "m",\n', '  "m",\n  "x",\n'), PY.replace('  "m",\n', '  "m",\n  "z>=2",  # why\n'),
        PY.replace('  "m",\n', '  "m",\n  "x",\n  "z>=2",  # why\n')),
    one("python: a list on one line", "pyproject.toml", INLINE, INLINE.replace('"a>=1"', '"a>=1", "x"'), INLINE.replace('"a>=1"', '"a>=1", "z"'),
        INLINE.replace('"a>=1"', '"a>=1", "x", "z"')),
    one("python: no comma after the last", "pyproject.toml", PY.replace('"m",', '"m"'), PY.replace('"m",', '"m",\n  "x"'), PY.replace('"m",', '"m",\n  "z"'),
        PY.replace('"m",', '"m",\n  "x",\n  "z",')),
    one("python: one changed, one added", "pyproject.toml", PY, PY.replace('"m"', '"m>=2"'), PY.replace('  "m",\n', '  "m",\n  "z",\n'),
        PY.replace('  "m",\n', '  "m>=2",\n  "z",\n')),
    one("python: one removed, one added", "pyproject.toml", PY, PY.replace('  "m",\n', ""), PY.replace('  "m",\n', '  "m",\n  "z",\n'), PY.replace('  "m",\n', '  "z",\n')),
    one("python: two tables at the end", "pyproject.toml", PY, PY + "\n[tool.a]\nx = 1\n", PY + "\n[tool.b]\nx = 1\n", PY + "\n[tool.a]\nx = 1\n\n[tool.b]\nx = 1\n"),
    one("python: the version and a list", "pyproject.toml", PY, PY.replace('"1"', '"2"').replace('  "m",\n', '  "m",\n  "x",\n'),
        PY.replace('  "m",\n', '  "m",\n  "z",\n'), PY.replace('"1"', '"2"').replace('  "m",\n', '  "m",\n  "x",\n  "z",\n')),
    one("python: two versions of one", "pyproject.toml", PY, PY.replace('"m"', '"m>=2"'), PY.replace('"m"', '"m<2"')),
    one("python: both add it, spelled otherwise", "pyproject.toml", PY, PY.replace('  "m",\n', '  "m",\n  "my-lib>=1",\n'), PY.replace('  "m",\n', '  "m",\n  "My_Lib>=2",\n')),
    one("python: clean for git, one added twice", "pyproject.toml", PY, PY.replace('  "a>=1"', '  "q>=1",\n  "a>=1"'), PY.replace('  "m",\n', '  "m",\n  "q<1",\n')),
    one("python: a key slips into a new table", "pyproject.toml", "[a]\nk = 1\n", "[a]\nk = 1\n[b]\nx = 1\n", "[a]\nk = 1\ny = 2\n", "[a]\nk = 1\ny = 2\n[b]\nx = 1\n"),
    one("poetry: two dependencies", "pyproject.toml", POETRY, POETRY + 'a = "^1"\n', POETRY + 'b = { version = "^2", extras = ["x"] }\n',
        POETRY + 'a = "^1"\nb = { version = "^2", extras = ["x"] }\n'),
    one("cargo: two dependencies", "Cargo.toml", CARGO, CARGO + 'log = "0.4"\n', CARGO + 'rand = { version = "0.8" }\n', CARGO + 'log = "0.4"\nrand = { version = "0.8" }\n'),
    one("cargo: one changed, one added below it", "Cargo.toml", CARGO, CARGO.replace('serde = "1"', 'serde = "2"'), CARGO + 'rand = "0.8"\n',
        CARGO.replace('serde = "1"', 'serde = "2"') + 'rand = "0.8"\n'),
    one("cargo: features both changed", "Cargo.toml", CARGO.replace('"1"', '{ version = "1", features = ["a"] }'), CARGO.replace('"1"', '{ version = "1", features = ["a", "b"] }'),
        CARGO.replace('"1"', '{ version = "1", features = ["a", "c"] }')),
]  # fmt: skip

GEN = "cat src/*.txt > gen/all.txt"
BOTH = ({"src/a.txt": "a\n", "gen/all.txt": "a\n"}, {"src/a.txt": "a\n", "src/b.txt": "b\n", "gen/all.txt": "a\nb\n"}, {"src/a.txt": "a\n", "src/c.txt": "c\n", "gen/all.txt": "a\nc\n"})  # fmt: skip


def generated(
    name: str, command: str, want: dict[str, str] | None = None, sides: tuple[dict[str, str], ...] = BOTH
) -> Case:
    return Case("generated", name, *sides, want, {"generated": ("gen/**",), "regenerate": command})


LONG = {f"src/{n}.txt": f"{n}\n" for n in range(1, 10)}
CLEAN = tuple(
    {
        **LONG,
        **more,
        "gen/all.txt": "".join(sorted({**LONG, **more}.values())) + f"{len(LONG) + len(more)} files\n",
    }
    for more in ({}, {"src/0.txt": "0\n"}, {"src/10.txt": "10\n"})
)
GENERATED = [
    generated("from what both wrote", GEN, {"gen/all.txt": "a\nb\nc\n"}),
    generated("clean for git, and wrong", "(cat src/*.txt | sort; ls src | wc -l | sed 's/$/ files/') > gen/all.txt",
              {"gen/all.txt": "".join(sorted({**LONG, "0": "0\n", "10": "10\n"}.values())) + "11 files\n"}, CLEAN),
    generated("it writes a file more", GEN + "; wc -l < gen/all.txt > gen/count.txt", {"gen/all.txt": "a\nb\nc\n", "gen/count.txt": "3\n"}),
    generated("two generated files", GEN + "; sort -r gen/all.txt > gen/back.txt", {"gen/all.txt": "a\nb\nc\n", "gen/back.txt": "c\nb\na\n"},
              tuple({**one, "gen/back.txt": "".join(sorted(one["gen/all.txt"].splitlines(keepends=True), reverse=True))} for one in BOTH)),
    generated("not the same twice", "cat src/*.txt > gen/all.txt; date +%N >> gen/all.txt"),
    generated("a command that does nothing", "true"),
    generated("a command that appends", "cat src/*.txt >> gen/all.txt"),
    generated("a command that fails", "false"),
    generated("no command", ""),
    generated("a command that makes it a link", "ln -sf ../src/a.txt gen/all.txt"),
]  # fmt: skip


def owned(path: str) -> bool:
    return path.startswith("migrations/")


def migration(
    name: str, base: dict[str, str], trunk: dict[str, str], spec: dict[str, str], want: dict[str, str | None]
) -> Case:
    return Case("migration", name, base, trunk, spec, want, {"migration": owned})


J = "migrations/_journal.json"
MIGRATION = [
    migration("the journal of both", {J: "[]\n"}, {J: "[1]\n"}, {J: "[2]\n"}, {J: "[1]\n"}),
    migration("a snapshot both added", {"a": "a"}, {"a": "a", "migrations/1.json": "t"}, {"a": "a", "migrations/1.json": "s"}, {"migrations/1.json": "t"}),
    migration("trunk removed what the spec changed", {"migrations/1.py": "a\n"}, {"x": "x"}, {"migrations/1.py": "b\n"}, {"migrations/1.py": None}),
    migration("clean for git", {J: "1\n2\n3\n4\n5\n"}, {J: "0\n1\n2\n3\n4\n5\n"}, {J: "1\n2\n3\n4\n5\n6\n"}, {J: "0\n1\n2\n3\n4\n5\n"}),
    migration("the spec removed what trunk changed", {"migrations/1.py": "a\n"}, {"migrations/1.py": "b\n"}, {"x": "x"}, {"migrations/1.py": "b\n"}),
]  # fmt: skip

BIG = "".join(f"line {n} of a file that is long enough\n" for n in range(20))
SUB = "1" * 40
STRUCTURAL = [
    Case("structural", "changed and deleted", {"a": "1\n"}, {"a": "2\n"}, {"b": "x"}),
    Case("structural", "deleted and changed", {"a": "1\n"}, {"b": "x"}, {"a": "2\n"}),
    Case("structural", "renamed to two names", {"a": BIG}, {"b": BIG}, {"c": BIG}),
    Case("structural", "renamed and deleted", {"a": BIG}, {"b": BIG}, {"x": "x"}),
    Case("structural", "a file and a folder", {"x": "x"}, {"x": "x", "d": "file\n"}, {"x": "x", "d/f": "f\n"}),
    Case("structural", "a link and a file", {"x": "x"}, {"x": "x", "a": ("120000", "x")}, {"x": "x", "a": "file\n"}),
    Case("structural", "two links", {"a": ("120000", "x")}, {"a": ("120000", "y")}, {"a": ("120000", "z")}),
    Case("structural", "two modes", {"x": "x"}, {"x": "x", "a": ("100755", "#!/bin/sh\n1\n")}, {"x": "x", "a": "#!/bin/sh\n2\n"}),
    Case("structural", "a submodule", {"x": "x", "s": ("160000", SUB)}, {"x": "x", "s": ("160000", "2" * 40)}, {"x": "x", "s": ("160000", "3" * 40)}),
    Case("structural", "binary", {"a.png": b"\0a"}, {"a.png": b"\0b"}, {"a.png": b"\0c"}),
    Case("structural", "a folder renamed under new files", {f"d/{n}": BIG + str(n) for n in range(3)}, {f"e/{n}": BIG + str(n) for n in range(3)},
         {**{f"d/{n}": BIG + str(n) for n in range(3)}, "d/new": "new\n"}),
    Case("structural", "two files renamed to one name", {"a": BIG, "b": BIG[::-1]}, {"c": BIG, "b": BIG[::-1]}, {"a": BIG, "c": BIG[::-1]}),
    Case("structural", "a lock file, deleted and changed", {"uv.lock": "version = 1\n"}, {"x": "x"}, {"uv.lock": "version = 2\n"}),
]  # fmt: skip

SAME = [
    case("same lines", "python", "a.py", "x = 1\n", "x = 2\n", "x = 3\n"),
    case("same lines", "ts", "a.ts", "const x = 1;\n", "const x = 2;\n", "const x = 3;\n"),
    case("same lines", "sql", "a.sql", "SELECT 1;\n", "SELECT 2;\n", "SELECT 3;\n"),
    case("same lines", "markdown", "a.md", "One.\n", "Two.\n", "Three.\n"),
    case("same lines", "yaml", "a.yaml", "a: 1\n", "a: 2\n", "a: 3\n"),
    case("same lines", "a line and one put behind it", "a.py", "x = 1\n", "x = 2\n", "x = 1\ny = 2\n"),
    case("same lines", "an import and the line below it", "a.py", "import a\nx = 1\n", "import b\nx = 2\n", "import c\nx = 3\n"),
    case("same lines", "an import that became another one", "a.py", "import a\n", "import b\n\nb.f()\n", "import c\n"),
    case("same lines", "declared additive, but changed", "CHANGELOG.md", "- a\n", "- b\n", "- c\n", additive=("CHANGELOG.md",)),
]  # fmt: skip
