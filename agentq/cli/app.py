"""The Typer application: every command is listed here, and lives in the module of its family."""

import difflib
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agentq import __version__
from agentq.cli import inspect_, queue_, run_, setup_


class Suggesting(TyperGroup):
    """Answers an unknown command with the nearest known one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            ctx.fail(f"No such command '{name}'.{hint}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Suggesting, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="A trunk-based spec runner for coding agents in parallel.",
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        print(f"agentq {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a bug.")] = False,
) -> None:
    """A trunk-based spec runner for coding agents in parallel."""


_START, _QUEUE, _LOOK, _SETUP = "Start work", "Change the queue", "Look", "Set up"
_PANELS: dict[str, list[Callable[..., None]]] = {
    _START: [run_.next, run_.run, run_.test, run_.implement, run_.verify, run_.work, run_.retry, run_.recover],
    _QUEUE: [
        queue_.add, queue_.edit, queue_.remove, queue_.hold, queue_.release, queue_.pause, queue_.resume,
    ],
    _LOOK: [inspect_.status, inspect_.show, inspect_.why, inspect_.logs, inspect_.diff, inspect_.graph],
    _SETUP: [setup_.init, setup_.doctor, setup_.schema, setup_.demo],
}  # fmt: skip
for panel, functions in _PANELS.items():
    for function in functions:
        app.command(function.__name__.rstrip("_"), rich_help_panel=panel)(function)

machine_app = typer.Typer(help="What this host may run.", no_args_is_help=True)
machine_app.command("setup")(setup_.machine_setup)
machine_app.command("show")(setup_.machine_show)
app.add_typer(machine_app, name="machine", rich_help_panel=_SETUP)
config_app = typer.Typer(help="The settings in force.", no_args_is_help=True)
config_app.command("show")(setup_.config_show)
app.add_typer(config_app, name="config", rich_help_panel=_SETUP)
