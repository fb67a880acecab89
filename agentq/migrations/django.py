"""Django: a graph of migrations in each app. Two of one number merge cleanly in git, and leave two leaf nodes."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from agentq.migrations import pysource
from agentq.migrations.base import Adapter, Commands, Files, Impossible, listed

Key = tuple[str, str]  # folder, name
_NUMBERED = re.compile(r"(\d+)(_.*)?")
_ANY = ("__first__", "__latest__")


class Unreadable(Exception):
    """A file that should be a migration, and is not. Never leaves this module."""


@dataclass(frozen=True)
class Link:
    """A migration that another one names: `node` is the text of its name."""

    app: str
    name: str
    node: ast.Constant


@dataclass(frozen=True)
class Migration:
    key: Key
    path: str
    source: pysource.Source
    depends: tuple[Link, ...] = ()
    before: tuple[Link, ...] = ()
    replaces: tuple[Link, ...] = ()


@dataclass
class Graph:
    """`apps`: folder → label. `stands_for`: replaced migration → the squashed one."""

    nodes: dict[Key, Migration]
    apps: dict[str, str]
    stands_for: dict[Key, Key] = field(default_factory=dict)

    def find(self, folder: str, link: Link) -> Key | None:
        """Which migration a link in `folder` means. None: one of an app that is not among these."""
        folders = [one for one in self.apps if self.apps[one] == link.app]
        if self.apps[folder] == link.app:
            folders = [folder]
        for one in folders:
            if (one, link.name) in self.nodes or (one, link.name) in self.stands_for:
                return self.current((one, link.name))
        return (folders[0], link.name) if folders and link.name not in _ANY else None

    def current(self, key: Key) -> Key:
        seen = {key}
        while key in self.stands_for and self.stands_for[key] not in seen:
            key = self.stands_for[key]
            seen.add(key)
        return key

    def parents(self) -> dict[Key, set[Key]]:
        """For each migration that counts, those it comes after."""
        found: dict[Key, set[Key]] = {key: set() for key in self.nodes if self.current(key) == key}
        for key, node in self.nodes.items():
            here = self.current(key)
            wanted = {self.find(key[0], link) for link in node.depends}
            found[here] |= {one for one in wanted if one is not None and one != here}
            for link in node.before:
                behind = self.find(key[0], link)
                if behind in found and behind is not None:
                    found[behind].add(here)
        return found

    def leaves(self) -> dict[str, list[str]]:
        """Folder → names of the migrations that no other one of the same app follows."""
        parents = self.parents()
        followed = {one for key, wanted in parents.items() for one in wanted if one[0] == key[0]}
        found: dict[str, list[str]] = defaultdict(list)
        for folder, name in sorted(parents):
            if (folder, name) not in followed:
                found[folder].append(name)
        return found


class Django(Adapter):
    """A folder's `__init__.py` belongs to the spec, not to the tool: without it a new app is passed over."""

    name = "django"
    bookkeeping = frozenset({"django_migrations"})
    usual = ("**/migrations/*.py",)
    defaults = Commands(
        upgrade="python manage.py migrate --noinput",
        generate="python manage.py makemigrations --noinput --no-header --name {name}",
        check="python manage.py makemigrations --check --dry-run --noinput",
    )
    repair = "join the leaf nodes on trunk with an empty migration; never re-point one that has landed"

    def owns(self, path: str) -> bool:
        *folders, name = path.split("/")
        test = (
            "tests" in folders
            or name.startswith("test_")
            or name.endswith("_test.py")
            or name in ("conftest.py", "tests.py")
        )
        return name.endswith(".py") and name != "__init__.py" and not test and super().owns(path)

    def clash(self, files: Files) -> str:
        try:
            return _clash(_graph(files))
        except Unreadable as error:
            return str(error)

    def _moved(self, trunk: Files, ours: Files, own: Files) -> Files | Impossible:
        landed, graph = _graph(trunk), _graph(ours)
        leaves = landed.leaves()
        mine = [graph.nodes[key] for key in _ordered(graph) if graph.nodes[key].path in own]
        names: dict[Key, str] = {}
        moved: dict[str, str] = {}
        for folder in sorted({node.key[0] for node in mine} & leaves.keys()):
            here = [node for node in mine if node.key[0] == folder]
            leaf = leaves[folder][0]
            # They already follow trunk's leaf: nothing to move.
            if any(graph.find(folder, link) == (folder, leaf) for node in here for link in node.depends):
                continue
            if refused := _immovable(here, graph):
                return refused
            moved[folder] = leaf
            names.update(_renamed(here, [key[1] for key in landed.nodes if key[0] == folder]))
        return _written(mine, names, graph, moved)


def _immovable(here: list[Migration], graph: Graph) -> Impossible | None:
    mine = {node.key for node in here}
    for node in here:
        if any((node.key[0], link.name) not in mine for link in node.replaces):
            return Impossible(
                f"{node.path} replaces migrations that have landed, and trunk has newer ones",
                "squash anew on trunk",
            )
    if not any(key[0] == here[0].key[0] and key not in mine for key in graph.nodes):
        return Impossible(
            f"{here[0].path} begins its app, and so does a migration on trunk", "write it for what trunk has"
        )
    return None


def _renamed(here: list[Migration], landed: list[str]) -> dict[Key, str]:
    """New names: numbers behind all that have landed, in order, as wide as they were."""
    numbers = [int(found[1]) for name in landed if (found := _NUMBERED.fullmatch(name))]
    following = max(numbers, default=0) + 1
    names = {}
    for node in here:
        if found := _NUMBERED.fullmatch(node.key[1]):
            names[node.key] = f"{following:0{len(found[1])}d}{found[2] or ''}"
            following += 1
    return names


def _written(
    mine: list[Migration], names: Mapping[Key, str], graph: Graph, moved: Mapping[str, str]
) -> dict[str, bytes]:
    """The spec's migrations under new names. `moved`: folder → trunk's leaf, which the roots there follow."""
    own = {node.key for node in mine}
    files = {}
    for node in mine:
        folder = node.key[0]
        changes = []
        for link in (*node.depends, *node.before, *node.replaces):
            found = graph.find(folder, link)
            target = names.get((found[0], link.name), link.name) if found else link.name
            if link in node.depends and found and folder in moved and found[0] == folder and found not in own:
                target = moved[folder]
            if target != link.name:
                changes.append((link.node, pysource.literal(target, node.source.text(link.node))))
        head, _, _ = node.path.rpartition("/")
        files[f"{head}/{names.get(node.key, node.key[1])}.py"] = node.source.edited(changes)
    return files


# ------------------------------------------------------------ reading


def _graph(files: Files) -> Graph:
    """Raises Unreadable."""
    nodes = {}
    for path, data in sorted(files.items()):
        folder, _, name = path.rpartition("/")
        if not name.startswith(("_", "~")):
            node = _read(path, (folder, name.removesuffix(".py")), data)
            nodes[node.key] = node
    folders = sorted({folder for folder, _ in nodes})
    graph = Graph(nodes, {folder: _label(folder, nodes.values()) for folder in folders})
    for node in nodes.values():
        for link in node.replaces:
            if graph.apps[node.key[0]] == link.app:
                graph.stands_for[node.key[0], link.name] = node.key
    return graph


def _label(folder: str, nodes: Iterable[Migration]) -> str:
    """The app's label: its folder's name, unless its migrations call each other by another one."""
    usual = folder.rpartition("/")[0].rpartition("/")[2] if "/" in folder else folder
    here = [node for node in nodes if node.key[0] == folder]
    stems = {node.key[1] for node in here}
    used = {link.app for node in here for link in node.depends if link.name in stems and link.name != node.key[1]}
    return usual if usual in used or len(used) != 1 else used.pop()


def _read(path: str, key: Key, data: bytes) -> Migration:
    source = pysource.read(data)
    if source is None:
        raise Unreadable(f"{path} cannot be read: it is not Python in UTF-8")
    for statement in source.tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == "Migration":
            values = pysource.assigned(statement.body)
            names = ("dependencies", "run_before", "replaces")
            return Migration(key, path, source, *(tuple(_links(path, name, values.get(name))) for name in names))
    raise Unreadable(f"{path} has no class Migration")


def _links(path: str, name: str, value: ast.expr | None) -> Iterator[Link]:
    if value is None:
        return
    if not isinstance(value, ast.List | ast.Tuple):
        raise Unreadable(f"{path}: '{name}' is not a list that is written out")
    for item in value.elts:
        if isinstance(item, ast.Call):  # migrations.swappable_dependency(settings.AUTH_USER_MODEL)
            continue
        parts = item.elts if isinstance(item, ast.Tuple | ast.List) else []
        texts = [one for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if len(texts) != 2 or len(parts) != 2:
            raise Unreadable(f'{path}: \'{name}\' names something other than ("app", "migration")')
        yield Link(str(texts[0].value), str(texts[1].value), texts[1])


def _clash(graph: Graph) -> str:
    for key, node in sorted(graph.nodes.items()):
        for link in node.depends:
            found = graph.find(key[0], link)
            if found is not None and found not in graph.nodes:
                return f"{node.path} depends on {link.app}.{link.name}, which is not there"
    try:
        TopologicalSorter(graph.parents()).prepare()
    except CycleError as error:
        return f"migrations follow each other in a circle: {listed({'/'.join(key) for key in error.args[1]})}"
    for folder, names in graph.leaves().items():
        if len(names) > 1:
            return f"{len(names)} leaf nodes in {folder}: {listed(names)}"
    return ""


def _ordered(graph: Graph) -> list[Key]:
    """All migrations, each behind those it depends on."""
    parents = {key: {graph.find(key[0], link) for link in node.depends} for key, node in graph.nodes.items()}
    known = {key: {one for one in wanted if one in graph.nodes} for key, wanted in parents.items()}
    sorter = TopologicalSorter({key: sorted(wanted) for key, wanted in sorted(known.items())})
    return [key for key in sorter.static_order() if key is not None]
