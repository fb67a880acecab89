"""Models and money: `agentq budget`, `cost`, `breakers`, `route`; and `attach` to an agent's conversation."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentq.cli.common import Json, SpecArgument, emit, words
from agentq.errors import UserError

if TYPE_CHECKING:
    from agentq.flows.services import Base
    from agentq.models.choose import Chooser

BY = ("spec", "type", "stage", "model", "tier", "bucket", "day")
By = Annotated[str, typer.Option("--by", help=f"{', '.join(BY[:-1])} or {BY[-1]}.", autocompletion=words(*BY))]
Everywhere = Annotated[bool, typer.Option("--all", help="Of all repositories of this host.")]


def _open() -> "tuple[Base, Chooser]":
    from agentq import wiring, wiring_agents

    base = wiring.base()
    return base, wiring_agents.chooser(base.config, wiring.book_file())


def budget(json: Json = False) -> None:
    """What may be spent and what is: each limit with what is used, held by running work, and free."""
    from agentq import render_models

    base, chooser = _open()
    lines = chooser.ledger.lines(base.workspaces.name)
    buckets = {name: chooser.gate.buckets.windows(name) for name in _buckets(base)}
    asleep = chooser.gate.buckets.sleeping()
    if json:
        emit(
            "budget",
            limits=[_limit(one) for one in lines],
            windows=[_window(name, one) for name, windows in buckets.items() for one in windows],
            asleep=[_sleeper(one) for one in asleep],
        )
        return
    render_models.budget(lines, buckets, asleep)


def _limit(one: Any) -> dict[str, Any]:
    """Dollars are a number with a fraction, tokens and requests are whole."""
    from agentq.core.budget import NANO

    unit = NANO if one.unit == "dollars" else 1
    amounts = {"total": one.total, "in_use": one.in_use, "allocated": one.allocated, "available": one.available}
    told = {name: amount / unit if unit > 1 else amount for name, amount in amounts.items()}
    return {"scope": one.scope, "name": one.name, "limit": one.limit, "unit": one.unit, **told, "frees": one.frees}


def _window(bucket: str, one: Any) -> dict[str, Any]:
    return {
        "bucket": bucket, "name": one.name, "used": round(one.utilization, 4), "resets_at": one.resets_at or None,
    }  # fmt: skip


def _sleeper(one: Any) -> dict[str, Any]:
    return {"bucket": one.bucket, "until": one.until, "reason": one.reason}


def cost(by: By = "spec", everywhere: Everywhere = False, json: Json = False) -> None:
    """What agents used and what it cost, by spec, type, stage, model, tier, bucket or day."""
    from agentq import render_models

    if by not in BY:
        raise UserError(f"cost cannot be told by '{by}'", f"one of: {', '.join(BY)}")
    base, chooser = _open()
    sums = chooser.ledger.sums(by, "" if everywhere else base.workspaces.name)  # type: ignore[arg-type]
    if json:
        emit("cost", by=by, rows=[_sum(one) for one in sums])
        return
    render_models.cost(by, sums)


def _sum(one: Any) -> dict[str, Any]:
    usage = one.usage
    return {
        "name": one.name, "requests": one.requests, "input": usage.input, "output": usage.output,
        "cache_read": usage.cache_read, "cache_write": usage.cache_write, "tokens": usage.total,
        "dollars": round(one.dollars, 6),
    }  # fmt: skip


def breakers(context: typer.Context, json: Json = False) -> None:
    """The breaker of each tier, and the buckets that sleep."""
    if context.invoked_subcommand:
        return
    from agentq import render_models

    base, chooser = _open()
    shown = {one.tier: one for one in chooser.gate.breakers.shown()}
    tiers = list(dict.fromkeys([*(base.config.models.tiers if base.config.models else ()), *shown]))
    asleep = chooser.gate.buckets.sleeping()
    if json:
        emit(
            "breakers",
            breakers=[_breaker(name, shown.get(name)) for name in tiers],
            asleep=[_sleeper(one) for one in asleep],
        )
        return
    render_models.breakers(tiers, shown, asleep)


def _breaker(name: str, one: Any) -> dict[str, Any]:
    if one is None:
        return {"tier": name, "state": "closed", "failures": 0, "since": None, "next_probe": None, "cause": ""}
    return {
        "tier": name, "state": one.state, "failures": one.failures, "since": one.since,
        "next_probe": one.next_probe, "probing": one.probing, "cause": one.cause,
    }  # fmt: skip


def reset(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A tier or a bucket; left out: all.")] = "",
    json: Json = False,
) -> None:
    """Close breakers and wake buckets: what was wrong has been put right."""
    base, chooser = _open()
    sleeping = [one.bucket for one in chooser.gate.buckets.sleeping()]
    known = {one.tier for one in chooser.gate.breakers.shown()} | set(sleeping) | set(_buckets(base))
    known |= set(base.config.models.tiers if base.config.models else ())
    if name and name not in known:
        from agentq.core.text import did_you_mean

        raise UserError(f"there is no tier or bucket '{name}'", did_you_mean(name, known) or "'agentq breakers'")
    closed = chooser.gate.breakers.reset(name)
    woken = [one for one in sleeping if name in ("", one) and chooser.gate.buckets.wake(one)]
    if json:
        emit("change", id=name, done="reset", closed=closed, woken=woken)
        return
    done = [*(f"closed the breaker of {one}" for one in closed), *(f"woke {one}" for one in woken)]
    print("\n".join(done) if done else "nothing was open or asleep")


def _buckets(base: "Base") -> list[str]:
    return list(base.config.models.buckets) if base.config.models else []


def route(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is to be done, as a spec would say it.")],
    type: Annotated[str | None, typer.Option("--type", help="The worker type, if it is known.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="The kind of work, if it is known.")] = None,
    json: Json = False,
) -> None:
    """Which worker and which model would do this, and why. Changes nothing, asks nobody."""
    from agentq import render_models, wiring
    from agentq.core.models import Models
    from agentq.models import router

    config = wiring.base().config
    found = router.route(text, config.models or Models(), type=type, kind=kind)
    if json:
        emit("route", **found.to_json())
        return
    render_models.route(found, config.models or Models())


def attach(
    spec_id: SpecArgument,
    show: Annotated[bool, typer.Option("--print", help="Only print the command.")] = False,
    json: Json = False,
) -> None:
    """Go on with the newest conversation an agent had about a spec, in its workspace, where the agent can."""
    import shlex

    from agentq import wiring, wiring_agents
    from agentq.flows.attach import conversation

    base = wiring.base()
    found = conversation(base, spec_id, lambda name: wiring_agents.driver(base.config, name))
    if json:
        emit(
            "attach", id=spec_id, driver=found.driver, session=found.session, folder=str(found.workspace),
            command=found.command,
        )  # fmt: skip
        return
    if show:
        print(f"cd {shlex.quote(str(found.workspace))} && {shlex.join(found.command)}")
        return
    os.chdir(found.workspace)
    os.execvp(found.command[0], found.command)
