"""What commands share: options, JSON on stdout, questions on a terminal."""

import json
import sys
from typing import Annotated, Any

import typer

from agentq.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="Print JSON; its 'schema' names the shape.")]
NoInput = Annotated[bool, typer.Option("--no-input", help="Never ask; what would be asked is refused.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes.")]
SpecArgument = Annotated[str, typer.Argument(metavar="ID", help="The spec's id.")]
OptionalSpec = Annotated[str | None, typer.Argument(metavar="[ID]", help="The spec's id; left out: recommended.")]


def emit(schema: str, **data: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps({"schema": f"agentq/{schema}/v1", **data}, ensure_ascii=False, default=str))


def interactive(no_input: bool) -> bool:
    """Whether a question may be asked: a person at both ends, and not refused."""
    return not no_input and sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str, answers: str, default: str) -> str:
    """One of the words in `answers` ('y/n/skip'), by its
    first letters; Enter is `default`. End of input is a no."""
    words = answers.split("/")
    shown = "/".join(word.upper() if word == default else word for word in words)
    while True:
        try:
            said = input(f"{question} [{shown}] ").strip().lower()
        except EOFError:
            return "n"
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
