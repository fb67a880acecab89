"""agentq: a trunk-based spec runner for coding agents in parallel."""

__version__ = "0.1.0"
