"""Commands that set up and look after a project and this host."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentq.cli.common import Json, NoInput, Yes, ask, emit, interactive, require_yes

if TYPE_CHECKING:
    from agentq.flows.doctor import Finding
    from agentq.flows.setup import Host, Plan

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show it.")]


def _row(name: str, value: object) -> None:
    from agentq.core.text import clean

    print(f"{name:<10} {clean(str(value))}")


def init(
    hub: Annotated[
        str | None, typer.Option("--hub", metavar="PATH", help="Bare repository to make as 'origin'.")
    ] = None,
    branch: Annotated[str, typer.Option("--branch", help="The trunk; left out: detected.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    no_input: NoInput = False,
    json: Json = False,
) -> None:
    """Set agentq up in this repository. Nothing that exists is overwritten, nothing is committed."""
    from agentq import repository, wiring
    from agentq.config import Config
    from agentq.flows import setup

    repo = repository.find(Path.cwd().resolve())
    path = Path(hub).expanduser().resolve() if hub else None
    place = wiring.workspaces_root(repo, Config(), os.environ)
    plan = setup.plan(repo.root, place, os.environ, branch, path)
    if not json:
        _show_plan(plan)
    written: list[str] = []
    made = False
    if not dry_run and (plan.pending or (plan.hub and path)):
        question = "Write these files?" if plan.pending else f"Make {plan.hub} as 'origin'?"
        require_yes(question, yes=yes, no_input=no_input or json)
        written = setup.apply(plan)
    if not dry_run and plan.hub and (path or _wants_hub(plan, asking=not yes and interactive(no_input or json))):
        setup.make_hub(plan.root, plan.hub, plan.trunk.branch)
        made = True
    if json:
        emit("init", **plan.to_json(), written=written, hub_made=made, dry_run=dry_run)
    else:
        _show_done(plan, written, made, dry_run)


def _wants_hub(plan: "Plan", asking: bool) -> bool:
    question = f"Make a bare repository {plan.hub} as 'origin' and push '{plan.trunk.branch}' there?"
    return asking and ask(question, "y/n", "n") == "y"


def _show_plan(plan: "Plan") -> None:
    where = f" on '{plan.trunk.remote}'" if plan.trunk.remote else ""
    _row("trunk", f"'{plan.trunk.branch}'{where} ({plan.trunk.why})")
    for name in ("setup", "test"):
        _row(name, getattr(plan.commands, name) or "(none found)")
    for index, command in enumerate(plan.commands.verify or ("(none found)",)):
        _row("verify" if index == 0 else "", command)
    _row("read from", ", ".join(plan.commands.sources) or "(no project file known to agentq)")
    _row("database", plan.database or "(none found)")
    print()
    for change in plan.changes:
        _row(change.action, change.path + (f": {change.note}" if change.note else ""))
    if plan.hub:
        _row("no remote", f"a bare repository could be made: {plan.hub}")
    print()


def _show_done(plan: "Plan", written: list[str], hub_made: bool, dry_run: bool) -> None:
    if dry_run:
        print("dry run: nothing was changed")
        return
    if hub_made:
        print(f"made {plan.hub} as 'origin'; '{plan.trunk.branch}' is there")
    print(f"wrote {', '.join(written)}" if written else "all files are there already")
    for note in plan.notes:
        print(f"note: {note}")
    if plan.hub and not hub_made:
        print("note: there is no remote to land on: 'agentq init --hub PATH' makes one, or 'git remote add'")
    to_commit = [path for path in written if path != ".machine"]
    if to_commit:
        trunk = plan.trunk
        print("\nnext, when the commands in agents/config.toml are right:")
        print(f"  git add {' '.join(to_commit)}")
        print("  git commit -m 'Set up agentq'")
        if trunk.current == trunk.branch:
            print(f"  git push {trunk.remote or 'origin'} {trunk.branch}")
        else:
            print(f"  and bring that commit to '{trunk.branch}' the way this project does")
        print("  agentq doctor")


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired without a person.")] = False,
    json: Json = False,
) -> None:
    """Check everything that must be right before work starts. Exit status 1 if something is not."""
    from agentq import repository, wiring
    from agentq.flows import doctor as flow

    repo = repository.find(Path.cwd().resolve())
    found = flow.checks(wiring, repo)
    fixed = flow.repair(found) if fix else []
    if fix and any(finding.fix for finding in found):
        found = flow.checks(wiring, repo)
    if json:
        rows = [{"level": f.level, "text": f.text, "hint": f.hint, "fixable": f.fix is not None} for f in found]
        emit("doctor", ok=all(finding.ok for finding in found), findings=rows, fixed=fixed)
    else:
        _show_findings(found, fixed, fix)
    if not all(finding.ok for finding in found):
        raise typer.Exit(1)


def _show_findings(found: "list[Finding]", fixed: list[str], fix: bool) -> None:
    from agentq.core.text import clean, plural

    for line in fixed:
        print(f"fixed  {clean(line)}")
    for finding in found:
        print(f"{finding.level:<6} {clean(finding.text)}")
        if finding.hint and finding.level != "ok":
            print(f"       hint: {clean(finding.hint)}")
    bad = sum(not finding.ok for finding in found)
    warned = sum(finding.level == "warn" for finding in found)
    print(f"\n{plural(bad, 'problem')}, {plural(warned, 'warning')}")
    if not fix and any(finding.fix for finding in found):
        print("hint: 'agentq doctor --fix' repairs some of it")


def schema(
    write: Annotated[Path | None, typer.Option("--write", metavar="PATH", help="Write it there instead.")] = None,
) -> None:
    """Print the JSON Schema of agents/queue.json."""
    from agentq.flows.setup import schema_text, write_schema

    if write is None:
        print(schema_text(), end="")
    else:
        write_schema(write)
        print(f"wrote {write}")


def demo(
    folder: Annotated[str | None, typer.Argument(help="Where to make it; left out: a temporary folder.")] = None,
    at_once: Annotated[int, typer.Option("-n", min=1, max=256, help="Specs at once.")] = 4,
) -> None:
    """Watch agents work in parallel on a small project of its own. Needs no key and no network."""
    from agentq.cli.demo_ import run_demo

    raise typer.Exit(run_demo(folder, at_once))


def machine_setup(
    force: Annotated[bool, typer.Option("--force", help="Replace a .machine that exists.")] = False,
    yes: Yes = False,
    no_input: NoInput = False,
    json: Json = False,
) -> None:
    """Look at this host, compute how many agents it carries, and write .machine."""
    from agentq import wiring
    from agentq.flows import setup

    base = wiring.base()
    root = wiring.workspaces_root(base.repo, base.config, os.environ)
    host = setup.host(root, base.config.machine)
    exists = (base.repo.root / ".machine").exists()
    if not json:
        _show_host(host)
    written = not exists or force
    if written:
        question = "Replace .machine?" if exists else "Write .machine?"
        require_yes(question, yes=yes, no_input=no_input or json)
        setup.write_machine(base.repo.root, host.text)
    if json:
        limits = {name: value for name, value in asdict(host.proposal).items() if name != "bound"}
        why = {"bound": host.proposal.bound, "reason": host.reason}
        emit("machine-setup", hardware=asdict(host.hardware), limits=limits, **why, written=written)
    else:
        print("wrote .machine" if written else ".machine exists and is kept; --force replaces it")


def _show_host(host: "Host") -> None:
    from agentq.core.text import plural

    seen, limits = host.hardware, host.proposal
    print(
        f"this host    {plural(seen.cpus, 'core')}, {seen.ram_gb:g} GB memory, {seen.disk_free_gb:g} GB disk free"
    )
    print(f"set aside    {limits.reserve_gb:g} GB for the system, {limits.agent_gb:g} GB for each agent")
    print(f"instances    {limits.instances}")
    print(f"             {host.reason}")
    workers = plural(limits.test_workers, "test worker"), plural(limits.playwright_workers, "browser worker")
    print(f"each agent   {', '.join(workers)}\n")


def machine_show(json: Json = False) -> None:
    """What .machine allows here, and what runs in its slots."""
    from agentq import machine, wiring

    base = wiring.base()
    limits = base.config.machine
    hardware = machine.detect(wiring.workspaces_root(base.repo, base.config, os.environ))
    problems = machine.check(limits, hardware)
    live = sorted(base.runs.live().values(), key=lambda run: run.instance)
    if json:
        slots = [
            {"instance": r.instance, "spec": r.spec, "stage": r.stage, "since": r.since, "pid": r.pid}
            for r in live
        ]
        emit("machine", **asdict(limits), hardware=asdict(hardware), problems=problems, slots=slots)
        return
    _show_settings(base.config.rows(), "machine.", origin=True)
    print()
    busy = {run.instance: run for run in live}
    for number in sorted({*range(1, limits.instances + 1), *busy}):
        run = busy.get(number)
        _row(f"slot {number}", f"{run.spec} ({run.stage} since {run.since})" if run else "free")
    for text in problems:
        print(f"warn: {text}")


def config_show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    json: Json = False,
) -> None:
    """The settings in force; passwords are hidden."""
    from agentq import wiring

    rows = wiring.base().config.rows()
    if json:
        settings = [{"name": n, "value": v, "origin": o.kind, "place": o.place} for n, v, o in rows]
        emit("config", settings=settings)
    else:
        _show_settings(rows, "", origin=origin)


def _show_settings(rows: list[tuple[str, str, Any]], prefix: str, *, origin: bool) -> None:
    shown = [(name, value, where) for name, value, where in rows if name.startswith(prefix)]
    width = max(len(name) for name, _, _ in shown)
    for name, value, where in shown:
        line = f"{name:<{width}} = {value}"
        said = f"{where.kind}: {where.place}" if where.place else where.kind
        if origin:
            # A long value keeps its line; where it came from stands below it.
            line = (
                f"{line:<46}  {said}" if len(line) <= 46 and len(said) <= 32 else f"{line}\n{'':<{width}}   {said}"
            )
        print(line)
