"""main(): the error boundary. Nothing else in agentq ends the process (architecture, "Errors and exit codes")."""

import os
import sys
from contextlib import suppress
from typing import Any

from agentq.errors import AgentqError, ExitCode


def main() -> None:
    arguments = sys.argv[1:]
    wants_json = "--json" in arguments or "--worker" in arguments
    try:
        from agentq.cli import fast

        if fast.serves(arguments):
            code = fast.next_json(arguments)
            if code is not None:
                _leave(code)
        from agentq import wiring
        from agentq.cli.app import app

        wiring.strip_git(os.environ)  # type: ignore[arg-type]
        app(prog_name="agentq")
    except AgentqError as error:
        _leave(_tell(error, wants_json))
    except KeyboardInterrupt:
        _say("error: interrupted; nothing is lost, run the command again")
        _leave(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _leave(ExitCode.OK)
    except Exception as error:
        _leave(_crash(error, "--debug" in arguments, wants_json))


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.exit(int(code))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _tell(error: AgentqError, wants_json: bool) -> int:
    from agentq.core.text import clean

    message, hint = clean(error.message), clean(error.hint)
    if wants_json:
        _print_json(error.code, message, hint, error.retryable)
    else:
        _say(f"error: {message}" + (f"\nhint: {hint}" if hint else ""))
    return error.exit_code


def _print_json(code: str, message: str, hint: str, retryable: bool) -> None:
    import json

    body: dict[str, Any] = {"code": code, "message": message, "hint": hint, "retryable": retryable}
    event = {"event": "error"} if "--worker" in sys.argv else {}
    print(json.dumps({**event, "schema": "agentq/error/v1", "error": body}))


def _crash(error: Exception, debug: bool, wants_json: bool) -> int:
    """One line for the person, everything else in a file."""
    import tempfile
    import traceback

    from agentq.core import redact

    trace = redact.in_urls("".join(traceback.format_exception(error)))
    if debug:
        _say(trace)
    details = "the details could not be written down"
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile("w", prefix="agentq-crash-", suffix=".txt", delete=False) as file,
    ):
        file.write(trace)
        file.flush()
        details = f"the details are in {file.name}"
    message = f"this is a bug in agentq: {type(error).__name__}: {redact.in_urls(str(error))[:200]}"
    hint = f"{details}; nothing is lost, and '--debug' shows them here"
    if wants_json:
        _print_json("bug", message, hint, False)
    else:
        _say(f"error: {message}\nhint: {hint}")
    return ExitCode.BUG


if __name__ == "__main__":
    main()
