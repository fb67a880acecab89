"""Honest completion: whether a change leaves the tests, and what runs them, as strong as they were."""
