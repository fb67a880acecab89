"""Commands that change the queue for a person."""

from typing import Annotated, Any

import typer

from agentq.cli.common import Json, NewSpec, NoInput, OpenSpec, Yes, emit, require_yes, spec_ids, words

Title = Annotated[str | None, typer.Option("--title", help="One line.")]
Description = Annotated[str | None, typer.Option("--description", help="What to build.")]
SpecFile = Annotated[
    str | None, typer.Option("--spec", help="Spec file inside the repository; its front matter counts.")
]
Type = Annotated[str | None, typer.Option("--type", help="Kind of work, picks the agent's time-out.")]
DependsOn = Annotated[
    list[str] | None,
    typer.Option(
        "--depends-on", metavar="ID", help="A spec it needs; may be repeated.",
        autocompletion=spec_ids("in_progress", "ready", "completed"),
    ),
]  # fmt: skip
FilesModified = Annotated[
    list[str] | None, typer.Option("--files", help="Path or glob it changes; may be repeated.")
]
TestsMayShrink = Annotated[
    list[str] | None, typer.Option("--tests-may-shrink", help="File whose tests it may weaken; may be repeated.")
]
Estimate = Annotated[float | None, typer.Option("--estimate", help="Hours.")]
Budget = Annotated[int | None, typer.Option("--context-budget", help="Tokens of context it may need.")]
Priority = Annotated[int | None, typer.Option("--priority", help="A manual pin; higher goes first.")]
Tests = Annotated[
    str | None, typer.Option("--tests", help="'required' or 'none'.", autocompletion=words("required", "none"))
]
Migration = Annotated[
    str | None,
    typer.Option(
        "--migration", help="'generated', 'destructive' or 'handwritten'.",
        autocompletion=words("generated", "destructive", "handwritten"),
    ),
]  # fmt: skip
Kind = Annotated[
    str | None,
    typer.Option(
        "--kind", help="Kind of work, picks the model; 'hard-review' is never guessed.",
        autocompletion=words("planning", "judgment", "structured", "research", "bulk", "hard-review"),
    ),
]  # fmt: skip
Network = Annotated[
    bool | None, typer.Option("--network/--no-network", help="Whether its agents' tools may use the network.")
]


def _fields(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _report(as_json: bool, spec_id: str, text: str, **more: Any) -> None:
    if as_json:
        emit("change", id=spec_id, done=text, **more)
    else:
        print(text)


def add(
    spec_id: NewSpec,
    title: Title = None,
    description: Description = None,
    spec: SpecFile = None,
    type: Type = None,
    depends_on: DependsOn = None,
    files_modified: FilesModified = None,
    tests_may_shrink: TestsMayShrink = None,
    estimate: Estimate = None,
    context_budget: Budget = None,
    priority: Priority = None,
    tests: Tests = None,
    migration: Migration = None,
    kind: Kind = None,
    network: Network = None,
    json: Json = False,
) -> None:
    """Add a spec to the end of the queue."""
    from agentq import wiring
    from agentq.flows.admin import add_spec

    base = wiring.base()
    given = _fields(
        title=title, description=description, spec=spec, type=type, depends_on=depends_on or None,
        files_modified=files_modified or None, tests_may_shrink=tests_may_shrink or None,
        estimate_hours=estimate, context_budget=context_budget, priority=priority, tests=tests,
        migration=migration, kind=kind, network=network,
    )  # fmt: skip
    add_spec(base.store, base.repo.root, spec_id, given)
    _report(json, spec_id, f"added '{spec_id}'")


def edit(
    spec_id: OpenSpec,
    title: Title = None,
    description: Description = None,
    spec: SpecFile = None,
    type: Type = None,
    depends_on: DependsOn = None,
    files_modified: FilesModified = None,
    tests_may_shrink: TestsMayShrink = None,
    estimate: Estimate = None,
    context_budget: Budget = None,
    priority: Priority = None,
    tests: Tests = None,
    migration: Migration = None,
    kind: Kind = None,
    network: Network = None,
    clear: Annotated[list[str] | None, typer.Option("--clear", help="Field to set back to its default.")] = None,
    json: Json = False,
) -> None:
    """Change fields of a spec; lists are replaced as a whole."""
    from agentq import wiring
    from agentq.flows.admin import edit_spec

    given = _fields(
        title=title, description=description, spec=spec, type=type, depends_on=depends_on or None,
        files_modified=files_modified or None, tests_may_shrink=tests_may_shrink or None,
        estimate_hours=estimate, context_budget=context_budget, priority=priority, tests=tests,
        migration=migration, kind=kind, network=network,
    )  # fmt: skip
    base = wiring.base()
    edit_spec(base.store, spec_id, given, clear or [], base.config.overlap.additive)
    _report(json, spec_id, f"changed '{spec_id}': {', '.join([*given, *(clear or [])])}")


def remove(spec_id: OpenSpec, yes: Yes = False, no_input: NoInput = False, json: Json = False) -> None:
    """Take a spec that has not started out of the queue."""
    from agentq import wiring
    from agentq.core import queue

    store = wiring.base().store
    queue.remove(store.read().queue, spec_id)
    require_yes(f"Remove '{spec_id}' from the queue?", yes=yes, no_input=no_input)
    store.update(lambda state: queue.remove(state, spec_id))
    _report(json, spec_id, f"removed '{spec_id}'")


def hold(
    spec_id: OpenSpec,
    why: Annotated[str, typer.Option("--why", help="Shown to whoever asks.")] = "",
    json: Json = False,
) -> None:
    """Keep a spec from being started."""
    from agentq import wiring
    from agentq.core import queue

    wiring.base().store.update(lambda state: queue.hold(state, spec_id, why))
    _report(json, spec_id, f"held '{spec_id}'")


def release(spec_id: OpenSpec, yes: Yes = False, no_input: NoInput = False, json: Json = False) -> None:
    """Let a held spec go; or give a spec in progress back to the queue, its work saved."""
    from agentq import wiring
    from agentq.core import queue
    from agentq.core.spec import InProgress
    from agentq.flows.recover import give_back

    base = wiring.base()
    store = base.store
    entry = queue.find(store.read().queue, spec_id)
    if entry.held or not isinstance(entry, InProgress):
        store.update(lambda state: queue.unhold(state, spec_id))
        _report(json, spec_id, f"released '{spec_id}'")
        return
    require_yes(
        f"Give '{spec_id}' back ({entry.status})? Its work is saved under refs/agentq/salvage/.",
        yes=yes, no_input=no_input,
    )  # fmt: skip
    refs = give_back(wiring.services(base), spec_id)
    saved = f"; its work is in {', '.join(refs)}" if refs else ""
    _report(json, spec_id, f"'{spec_id}' is ready again{saved}", salvaged=refs)


def pause(
    why: Annotated[str, typer.Option("--why", help="Shown to whoever asks.")] = "", json: Json = False
) -> None:
    """No new claims on this queue; running work goes on."""
    from agentq import wiring
    from agentq.core import queue

    wiring.base().store.update(lambda state: queue.pause(state, why))
    _report(json, "", "paused: nothing new is claimed; running work goes on")


def resume(json: Json = False) -> None:
    """Allow new claims again."""
    from agentq import wiring
    from agentq.core import queue

    wiring.base().store.update(queue.resume)
    _report(json, "", "resumed")
