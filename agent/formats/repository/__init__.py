"""Snapshots in the restic repository format, version 2: only what is new is sent.

Source of the format: `doc/design.rst` of restic.
"""
