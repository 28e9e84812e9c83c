"""Decides which requests the agent answers: checks their host and origin, and signs clients in."""
