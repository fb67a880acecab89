"""The router (mission rows P5, P11, N6): which kind of work a text asks for, and which tiers do it."""
