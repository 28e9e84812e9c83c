"""Saving: which files, whether they changed, the backup itself, and how long its archives are kept."""
