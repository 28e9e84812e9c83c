"""Saving: the walk over the files, change detection, the backup itself, and the retention of archives."""
