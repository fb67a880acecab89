"""A stage or a landing whose change carries a secret stops, and a person is asked."""

from agentq.core import secrets
from agentq.flows.outcome import Failed
from agentq.flows.session import Session
from agentq.trunk.leaks import Leak, in_change

SHOWN = 3


def check(session: Session, before: str, after: str, text: str = "") -> Failed | None:
    """Failed when the change from `before` to `after` (commits or trees) or `text` carries a secret. Raises
    GitError when git cannot say."""
    known = session.services.secrets
    found = in_change(session.services.mirror, before, after, known)
    found += [Leak("", one) for one in secrets.scan(text, known)]
    if not found:
        return None
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    problem = f"the change carries a secret: {'; '.join(map(str, found[:SHOWN]))}{more}"
    hint = (
        f"make it invalid where it was issued, take it out, then 'agentq retry {session.id}'; "
        f"if it is none, write '{secrets.ALLOW}' on its line"
    )
    return Failed(problem, hint, attention=problem)
