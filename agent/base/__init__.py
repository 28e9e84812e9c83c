"""Errors, clocks, durations and texts, which every part of the agent uses. Imports nothing above it."""
