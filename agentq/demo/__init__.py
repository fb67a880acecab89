"""A small project with twelve specs, for watching agentq work without a model."""
