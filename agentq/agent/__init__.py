"""The built-in agent: it acts on this host and thinks at any server that speaks the Messages API (mission rows S1,
S2). A process of its own, `python -m agentq.agent JOB`; nothing else imports it, so nothing else pays for the
SDK."""
