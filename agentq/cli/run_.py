"""Commands that start work: recommend, run, land."""

import json as json_module
import sys
from typing import Annotated, Any

import typer

from agentq.cli.common import (
    Json,
    NoInput,
    OptionalSpec,
    Yes,
    ask,
    emit,
    interactive,
    spec_ids,
    words,
)  # fmt: skip
from agentq.core.lifecycle import STAGES, Stage
from agentq.errors import ExitCode, Refused, UserError

Worker = Annotated[int, typer.Option("--worker", hidden=True, help="Process that started this one.")]
_ENDED = {"landed": 0, "stopped": 0, "declined": 0, "failed": 6, "attention": 6, "interrupted": 130}
_WHY = {"budget": ExitCode.BUDGET, "credentials": ExitCode.CREDENTIALS, "models": ExitCode.ERROR}


def next(
    count: Annotated[int, typer.Option("-n", min=1, max=256, help="A batch that can run together.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show it.")] = False,
    yes: Yes = False,
    no_input: NoInput = False,
    json: Json = False,
) -> None:
    """Recommend what to start next, with its reasons, and run it if you agree."""
    from agentq import render, wiring
    from agentq.cli.fast import answer_json

    base = wiring.base()
    situation = base.look()
    advice = situation.advice()
    if json:
        answer, code = answer_json(situation, advice, count)
        print(json_module.dumps(answer, ensure_ascii=False))
        raise typer.Exit(code)
    batch = situation.batch(count) if count > 1 else None
    render.advice(situation, advice, batch, count)
    if advice.pick is None:
        raise typer.Exit(ExitCode.NOTHING)
    if dry_run or (not yes and not interactive(no_input)):
        return
    if batch is not None:
        question = f"Start {'it' if len(batch) == 1 else f'these {len(batch)}'}? They land without asking."
        if yes or ask(question, "y/n", "y") == "y":
            _work(base, count, [one.id for one in batch])
        return
    chosen = advice.pick.id if yes else _choose(situation, advice)
    if chosen:
        run_here(base, chosen, "verify", yes=yes, no_input=no_input, stream=False)


def _choose(situation: Any, advice: Any) -> str:
    """Walk through the candidates with the person; '' if none is wanted."""
    from agentq import render

    for candidate in advice.ranked:
        while True:
            said = ask(f"Run '{candidate.id}'?", "y/n/skip/why", "y")
            if said != "why":
                break
            render.candidate(situation, candidate)
        if said == "y":
            return str(candidate.id)
        if said == "n":
            return ""
    print("nothing else is eligible")
    return ""


def run(
    spec_id: OptionalSpec = None,
    stop_after: Annotated[
        str | None,
        typer.Option("--stop-after", help="test, implement or verify.", autocompletion=words(*STAGES)),
    ] = None,
    yes: Yes = False,
    no_input: NoInput = False,
    json: Json = False,
    worker: Worker = 0,
) -> None:
    """Run a spec: test, implement, verify, land. Without an ID: the recommended one."""
    last = stop_after or "verify"
    if last not in STAGES:
        raise UserError(f"--stop-after {last}: there is no such stage", f"stages: {', '.join(STAGES)}")
    _recommended(spec_id, None, last, yes=yes, no_input=no_input, stream=json or bool(worker), worker=worker)


def test(spec_id: OptionalSpec = None, yes: Yes = False, no_input: NoInput = False, json: Json = False) -> None:
    """Run only the test stage: an agent writes tests, which must fail."""
    _recommended(spec_id, "test", "test", yes=yes, no_input=no_input, stream=json)


def implement(
    spec_id: OptionalSpec = None, yes: Yes = False, no_input: NoInput = False, json: Json = False
) -> None:
    """Run only the implement stage: an agent writes code until the locked tests pass."""
    _recommended(spec_id, "implement", "implement", yes=yes, no_input=no_input, stream=json)


def verify(spec_id: OptionalSpec = None, yes: Yes = False, no_input: NoInput = False, json: Json = False) -> None:
    """Run only the verify stage: rebase, prove the tree in a clean checkout, push."""
    _recommended(spec_id, "verify", "verify", yes=yes, no_input=no_input, stream=json)


def retry(
    spec_id: Annotated[
        str, typer.Argument(metavar="ID", help="The spec's id.", autocompletion=spec_ids("in_progress"))
    ],
    from_stage: Annotated[
        str | None,
        typer.Option("--from", help="Go back to this stage (implement).", autocompletion=words("implement")),
    ] = None,
    yes: Yes = False,
    no_input: NoInput = False,
    json: Json = False,
) -> None:
    """Forgive a spec's failures and go on from the stage it stopped at; with --yes at once."""
    from agentq import wiring
    from agentq.core import queue
    from agentq.flows.recover import forgive

    if from_stage not in (None, "implement"):
        raise UserError(f"--from {from_stage}: only 'implement' can be gone back to")
    base = wiring.base()
    _check_retry(queue.find(base.store.read().queue, spec_id), from_stage)
    stage = from_stage or ""
    forgive(wiring.services(base), spec_id, stage)
    text = f"'{spec_id}' may run again"
    if yes or (not json and interactive(no_input) and ask(f"{text}. Now?", "y/n", "y") == "y"):
        run_here(base, spec_id, "verify", yes=yes, no_input=no_input, stream=json)
    elif json:
        emit("change", id=spec_id, done=text)
    else:
        print(f"{text}: 'agentq run {spec_id}'")


def _check_retry(entry: Any, from_stage: str | None) -> None:
    """Raises Refused when there is nothing to forgive."""
    array = "completed" if hasattr(entry, "landed") else "in progress" if hasattr(entry, "lease") else "ready"
    if array == "completed":
        raise Refused(f"'{entry.id}' is completed; it landed as {entry.landed[:10]}", "a fix is a new spec")
    if array == "ready":
        raise Refused(f"'{entry.id}' has not been started", f"'agentq run {entry.id}' starts it")
    if not (entry.failures or entry.attention or from_stage):
        raise Refused(f"'{entry.id}' has not failed", f"'agentq run {entry.id}' goes on with it")


def _recommended(
    spec_id: str | None,
    stage: Stage | None,
    last: str,
    *,
    yes: bool,
    no_input: bool,
    stream: bool,
    worker: int = 0,
) -> None:
    """Run `spec_id`, or recommend one for this command and ask (mission row T2)."""
    from agentq import wiring
    from agentq.core import queue

    base = wiring.base(person=not worker)
    if spec_id is None:
        spec_id = _recommend(base, stage, yes=yes, no_input=no_input, stream=stream)
        if not spec_id:
            return
    else:
        due = queue.next_stage(queue.find(base.store.read().queue, spec_id))
        if stage is not None and due != stage:
            raise Refused(
                f"'{spec_id}' is not at its {stage} stage",
                f"its next stage is {due}: 'agentq {due} {spec_id}'",
            )
    run_here(base, spec_id, last, yes=yes, no_input=no_input, stream=stream, worker=worker)


def _recommend(base: Any, stage: Stage | None, *, yes: bool, no_input: bool, stream: bool) -> str:
    """The spec to run; '' if the person wants none. Exits 3 when nothing is eligible."""
    from agentq import render
    from agentq.cli.fast import answer_json

    situation = base.look()
    advice = situation.advice_for(stage) if stage else situation.advice()
    if not stream:
        render.advice(situation, advice, stage=stage or "")
    if advice.pick is None:
        if stream:
            print(json_module.dumps(answer_json(situation, advice)[0], ensure_ascii=False))
        raise typer.Exit(ExitCode.NOTHING)
    if yes:
        return str(advice.pick.id)
    if stream or not interactive(no_input):
        why = "--json asks nothing" if stream else "there is nobody to ask"
        raise UserError(f"'{advice.pick.id}' is recommended, and {why}", "pass --yes, or name the spec")
    return _choose(situation, advice)


def run_here(
    base: Any, spec_id: str, last: str, *, yes: bool, no_input: bool, stream: bool, worker: int = 0
) -> None:
    """Run one spec here; progress as lines, or as NDJSON when `stream`."""
    from agentq import live, render, wiring
    from agentq.flows.recover import recover
    from agentq.flows.run import run_spec

    stops = wiring.Stops()
    stops.listen()
    if worker:
        wiring.follow_parent(worker)
    show = _ndjson if stream else live.Lines(sys.stdout).event
    services = wiring.services(base, wiring.recording(show), stops)
    recover(services)

    asking = not stream and interactive(no_input)

    def confirm(spec: str, summary: str) -> bool:
        if yes or not asking:
            return yes
        print(summary)
        return ask(f"Push '{spec}' to {base.config.trunk.branch}?", "y/n", "y") == "y"

    report = run_spec(services, spec_id, last=last, confirm=confirm)  # type: ignore[arg-type]
    if stream:
        _ndjson("result", {"schema": "agentq/run/v1", **report.__dict__})
    else:
        render.report(report)
    if report.ended == "declined" and not asking:
        raise UserError(
            f"'{spec_id}' is proved and was not pushed: nobody could be asked",
            f"'agentq verify {spec_id} --yes' pushes it",
        )
    raise typer.Exit(_WHY.get(report.why, _ENDED[report.ended]))


def _ndjson(event: str, data: dict[str, Any]) -> None:
    print(json_module.dumps({"event": event, **data}, ensure_ascii=False, default=str), flush=True)


def work(
    at_once: Annotated[
        int | None, typer.Option("-n", min=1, max=256, help="Specs at once; .machine caps it.")
    ] = None,
    json: Json = False,
) -> None:
    """Run several specs at once until nothing more may start. Lands without asking."""
    from agentq import wiring

    _work(wiring.base(), at_once, [], stream=json)


def _work(base: Any, at_once: int | None, only: list[str], *, stream: bool = False) -> None:
    from agentq import live, render, wiring

    stops = wiring.Stops()
    stops.listen()
    show: Any = live.Stream(_ndjson) if stream else live.work_view(base, only)
    with show:
        report = wiring.work(base, at_once, only, stops, show)
    if stream:
        emit(
            "work", ended=list(report.ended), waiting={k: r.to_json() for k, r in report.waiting.items()},
            blocked=report.blocked.to_json() if report.blocked else None, interrupted=report.interrupted,
        )  # fmt: skip
    else:
        render.work_report(report, len(base.store.read().queue.completed))
    if report.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    halted = [one["exit"] for one in report.ended if one.get("ended") == "interrupted" and one.get("why")]
    if halted:
        raise typer.Exit(halted[0])
    if any(one["exit"] not in (0, ExitCode.STALE) for one in report.ended):
        raise typer.Exit(ExitCode.VERIFY)
    if not report.ended:
        raise typer.Exit(ExitCode.NOTHING)


def recover(json: Json = False) -> None:
    """Settle what a crash left: pushes, processes, leases, workspaces. Other commands do this by themselves."""
    from agentq import wiring
    from agentq.flows.recover import recover as settle

    done = settle(wiring.services(wiring.base()))
    if json:
        emit("recover", settled=done.lines)
    else:
        print("\n".join(done.lines) if done.lines else "nothing to settle")
