"""Before a stage: the workspace on trunk, with what earlier stages proved and what this one left unfinished."""

from agentq.core.lifecycle import STAGES, Stage
from agentq.flows import wip
from agentq.flows.merging import rebase_work
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.session import Session
from agentq.trunk import folder
from agentq.trunk.workspace import wait_for_index_lock


def prepare_workspace(session: Session, stage: Stage, trunk: str) -> str | Failed | Interrupted:
    """Workspace on trunk with what earlier stages proved and what this one left unfinished. Returns the
    commit the agent starts from."""
    mirror, workspaces = session.services.mirror, session.services.workspaces
    if folder.is_real(session.workspace) and (failed := _before_rebase(session)):
        return failed
    crashed_from, crashed_in = workspaces.unsaved(session.workspace)
    if workspaces.foreign(session.workspace):
        _save_foreign(session, trunk)
    elif crashed_from:
        session.save_wip(
            crashed_from if mirror.has(crashed_from) else trunk, crashed_in if crashed_in in STAGES else stage
        )
        if workspaces.unsaved(session.workspace)[0]:
            return Failed("the unfinished work of a crashed attempt cannot be saved", "see the note above")
    if (stopped := rebase_work(session, trunk, ("test",))) is not None:
        return stopped
    if stage == "implement" and "test" not in session.work and session.entry.tests == "required":
        return session.lost("test")
    start = session.work["test"].commit if stage == "implement" and "test" in session.work else trunk
    wip_tree = wip.unfinished(session, stage, start)
    if not session.workspace.exists():
        workspaces.adopt_idle(session.workspace)
    workspaces.prepare(session.workspace, start, wip_tree=wip_tree)
    workspaces.note_start(session.workspace, start, stage)
    session.stand_on(trunk)
    return start


def _save_foreign(session: Session, trunk: str) -> None:
    """Save the files of a workspace whose mirror was deleted: nothing else holds them."""
    mirror, workspaces = session.services.mirror, session.services.workspaces
    tree = mirror.snapshot(session.workspace, trunk)
    if tree != mirror.tree(trunk):
        commit = mirror.commit_tree(tree, [trunk], f"{session.id}: files of its workspace")
        ref = session.salvage(commit, "its mirror was deleted")
        session.say("note", text=f"the mirror was deleted; the files of the workspace are saved as {ref}")
    workspaces.saved(session.workspace)


def _before_rebase(session: Session) -> Failed | None:
    """Stop what holds the index lock, then wait for it (mission row T12)."""
    for command in session.rules.commands.before_rebase:
        session.command(command, session.workspace, "before-rebase", {}, walled=False)
    if wait_for_index_lock(session.workspace):
        return None
    return Failed(
        f"{session.workspace / '.git/index.lock'} is held by a running process",
        "add the command that stops it to [commands] before_rebase",
    )
