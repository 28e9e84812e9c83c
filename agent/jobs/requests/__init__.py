"""Requests: what somebody asks for, read once from a message into a frozen type."""
