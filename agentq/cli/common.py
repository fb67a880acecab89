"""What commands share: options, JSON on stdout, questions on a terminal."""

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from agentq.errors import ExitCode, UserError


def spec_ids(*arrays: str) -> Callable[[str], list[tuple[str, str]]]:
    """Completion for the ids in these arrays of the queue, with titles. It reads the file as it is: no
    validation, no error; a queue that cannot be read completes nothing."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        from contextlib import suppress
        from pathlib import Path

        from agentq import repository
        from agentq.core.text import one_line
        from agentq.errors import UserError

        found: list[tuple[str, str]] = []
        with suppress(OSError, ValueError, AttributeError, TypeError, UserError):
            data = json.loads(repository.find(Path.cwd()).queue_file.read_bytes())
            for array in arrays:
                for entry in data.get(array, ()):
                    if str(entry.get("id", "")).startswith(incomplete):
                        found.append((str(entry["id"]), one_line(str(entry.get("title", "")), 60)))
        return found

    return complete


def words(*known: str) -> Callable[[str], list[str]]:
    """Completion from a fixed list."""
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


_ALL = spec_ids("in_progress", "ready", "completed")
_OPEN = spec_ids("in_progress", "ready")
Json = Annotated[bool, typer.Option("--json", help="Print JSON; its 'schema' names the shape.")]
NoInput = Annotated[bool, typer.Option("--no-input", help="Never ask; what would be asked is refused.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes.")]
SpecArgument = Annotated[str, typer.Argument(metavar="ID", help="The spec's id.", autocompletion=_ALL)]
OpenSpec = Annotated[str, typer.Argument(metavar="ID", help="The spec's id.", autocompletion=_OPEN)]
NewSpec = Annotated[str, typer.Argument(metavar="ID", help="The new spec's id: a-z, 0-9 and '-'.")]
OptionalSpec = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="The spec's id; left out: recommended.", autocompletion=_OPEN),
]


def emit(schema: str, **data: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps({"schema": f"agentq/{schema}/v1", **data}, ensure_ascii=False, default=str))


def interactive(no_input: bool) -> bool:
    """Whether a question may be asked: a person at both ends, and not refused."""
    return not no_input and sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str, answers: str, default: str) -> str:
    """One of the words in `answers` ('y/n/skip'), by its first letters; Enter is `default`, end of input
    is 'n'. Ctrl-C leaves with nothing done."""
    words = answers.split("/")
    shown = "/".join(word.upper() if word == default else word for word in words)
    while True:
        try:
            said = input(f"{question} [{shown}] ").strip().lower()
        except EOFError:
            print()
            return "n"
        except KeyboardInterrupt:
            print("\nnothing was changed")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if not said:
            return default
        found = [word for word in words if word.startswith(said)]
        if len(found) == 1 or said in words:
            return said if said in words else found[0]
        print(f"please answer one of: {', '.join(words)}")


def require_yes(question: str, *, yes: bool, no_input: bool) -> None:
    """Ask for a yes. Raises UserError when nobody can be asked, or the answer is no."""
    if yes:
        return
    if not interactive(no_input):
        raise UserError(f"{question} needs a yes, and there is no terminal to ask on", "pass --yes")
    if ask(question, "y/n", "n") != "y":
        raise UserError("nothing was changed")
