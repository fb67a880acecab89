"""Commands about the machines that share a queue: take a spec from one, send one home, forget one."""

from typing import TYPE_CHECKING, Annotated

import typer

from agentq.cli.common import Json, NoInput, Yes, emit, require_yes, spec_ids

if TYPE_CHECKING:
    from agentq.flows.recover import Theft

Name = Annotated[str, typer.Argument(metavar="NAME", help="The machine's name, as in .machine.")]


def steal(
    spec_id: Annotated[
        str, typer.Argument(metavar="ID", help="The spec's id.", autocompletion=spec_ids("in_progress"))
    ],
    run: Annotated[bool, typer.Option("--run", help="Run it here at once.")] = False,
    yes: Yes = False,
    no_input: NoInput = False,
    json: Json = False,
) -> None:
    """Take a spec from another machine: it is ready again, with the work that machine pushed."""
    from agentq import wiring
    from agentq.cli.run_ import run_here
    from agentq.flows.recover import steal as take
    from agentq.flows.recover import theft

    base = wiring.base()
    services = wiring.services(base)
    found = theft(services, spec_id)
    if not json:
        _show(found)
    require_yes(f"Take '{spec_id}' from {found.machine}?", yes=yes, no_input=no_input or json)
    take(services, found)
    if run:
        run_here(base, spec_id, "verify", yes=yes, no_input=no_input, stream=json)
    elif json:
        emit(
            "change", id=spec_id, done=f"taken from {found.machine}; ready again", machine=found.machine,
            pushed=list(found.pushed),
        )  # fmt: skip
    else:
        print(f"'{spec_id}' is ready again: 'agentq run {spec_id}'")


def _show(found: "Theft") -> None:
    from agentq.core.text import ago, clean

    alive = "dead" if found.dead else "at work on it" if found.at_work else "not at work on it"
    print(f"machine    {clean(found.machine)}: {alive}, last heartbeat {ago(found.silent)}")
    print(f"status     {found.status}")
    print(f"pushed     {', '.join(found.pushed) or 'nothing: the next owner begins from trunk'}")
    print(f"not here   what it did after that; {clean(found.machine)} saves it when it sees that the spec is gone")


def machine_drain(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The machine; left out: this one.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Let it claim specs again.")] = False,
    json: Json = False,
) -> None:
    """A machine claims nothing more; what it runs goes on."""
    from agentq import wiring
    from agentq.flows.admin import drain

    base = wiring.base()
    machines, own = wiring.machines(base), base.config.machine.name
    name = name or own
    text = drain(base.store, name, {own, *(machines.names() if machines else ())}, undo=undo)
    if json:
        emit("change", id=name, done=text)
    else:
        print(text)


def machine_forget(name: Name, yes: Yes = False, no_input: NoInput = False, json: Json = False) -> None:
    """Remove the heartbeat of a machine that is gone. Specs it still has are then taken for abandoned."""
    from agentq import wiring
    from agentq.errors import Refused

    machines = wiring.machines(wiring.base())
    if machines is None:
        raise Refused("this queue is this host's alone: there are no other machines", "'agentq share' shares it")
    require_yes(f"Forget '{name}'?", yes=yes, no_input=no_input or json)
    machines.forget(name)
    if json:
        emit("change", id=name, done="forgotten")
    else:
        print(f"'{name}' is forgotten")
