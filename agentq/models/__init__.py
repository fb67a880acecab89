"""Models and money: routes, budgets, breakers, shared by all processes of this host."""
