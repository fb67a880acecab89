"""The Typer application: every command is listed here, and lives in the module of its family."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agentq import __version__
from agentq.cli import db_, inspect_, lane_, machines_, models_, queue_, run_, setup_, share_
from agentq.core.text import did_you_mean
from agentq.errors import AgentqError, ExitCode, UserError


class Suggesting(TyperGroup):
    """Answers an unknown command with the nearest known one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            hint = did_you_mean(name, self.list_commands(ctx)) or f"'{ctx.command_path} --help' lists the commands"
            raise UserError(f"there is no command '{name}'", hint)
        return super().resolve_command(ctx, args)


class Root(Suggesting):
    """A wrong command line becomes an error like every other, so that it is told in JSON when asked to."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("\nerror: interrupted; nothing is lost, run the command again", file=sys.stderr)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            _read_enough()
            raise typer.Exit from None

    def main(self, *args: Any, **options: Any) -> Any:
        """Raises UserError on a wrong command line, SystemExit with the exit code otherwise."""
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
            sys.stdout.flush()
        except BrokenPipeError:
            _read_enough()
            code = 0
        except Exception as error:
            # The parser's own classes are not importable under one name in every version of Typer.
            if isinstance(error, AgentqError) or not hasattr(error, "format_message"):
                raise
            if type(error).__name__ == "NoArgsIsHelpError":
                print(error.format_message())
                raise SystemExit(ExitCode.USAGE) from None
            raise _usage(error) from None
        raise SystemExit(code if isinstance(code, int) else 0)


def _read_enough() -> None:
    """Whoever read stdout has gone. Python would complain once more when it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: Any) -> UserError:
    """What the parser says, in this program's words."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "agentq"
    hint = f"'{path} --help' shows how"
    option = getattr(error, "option_name", "")
    if option:
        known = [name for one in context.command.params for name in one.opts] if context else []
        hint = " ".join(filter(None, (did_you_mean(option, known), hint)))
    message = f"there is no option '{option}'" if option and hasattr(error, "possibilities") else ""
    return UserError(message or error.format_message().rstrip("."), hint)


app = typer.Typer(
    cls=Root, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
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
        machines_.steal,
    ],
    _LOOK: [
        inspect_.status, inspect_.show, inspect_.why, inspect_.logs, inspect_.diff, inspect_.graph,
        models_.attach, models_.cost, models_.budget, models_.route,
    ],
    _SETUP: [setup_.init, setup_.doctor, share_.share, share_.unshare, setup_.schema, setup_.demo],
}  # fmt: skip
for panel, functions in _PANELS.items():
    for function in functions:
        app.command(function.__name__.rstrip("_"), rich_help_panel=panel)(function)

lane_app = typer.Typer(
    cls=Suggesting, help="What waits to land, what is tested, and why.", invoke_without_command=True
)
lane_app.callback()(lane_.lane)
lane_app.command("freeze")(lane_.freeze)
lane_app.command("thaw")(lane_.thaw)
app.add_typer(lane_app, name="lane", rich_help_panel=_LOOK)
breakers_app = typer.Typer(
    cls=Suggesting, help="Which tiers are left alone for a while, and why.", invoke_without_command=True
)
breakers_app.callback()(models_.breakers)
breakers_app.command("reset")(models_.reset)
app.add_typer(breakers_app, name="breakers", rich_help_panel=_LOOK)
db_app = typer.Typer(cls=Suggesting, help="Database branches by hand.", no_args_is_help=True)
for function in (db_.db_list, db_.db_branch, db_.db_url, db_.db_drop, db_.db_seal, db_.db_warm, db_.db_reap):
    db_app.command(function.__name__.removeprefix("db_"))(function)
app.add_typer(db_app, name="db", rich_help_panel=_SETUP)
machine_app = typer.Typer(cls=Suggesting, help="What this host may run.", no_args_is_help=True)
machine_app.command("setup")(setup_.machine_setup)
machine_app.command("show")(setup_.machine_show)
machine_app.command("drain")(machines_.machine_drain)
machine_app.command("forget")(machines_.machine_forget)
app.add_typer(machine_app, name="machine", rich_help_panel=_SETUP)
config_app = typer.Typer(cls=Suggesting, help="The settings in force.", no_args_is_help=True)
config_app.command("show")(setup_.config_show)
app.add_typer(config_app, name="config", rich_help_panel=_SETUP)
