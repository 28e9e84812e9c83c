"""Restoring, all or nothing: a failure, a cancel or a crash leaves the target entirely old or entirely new.

Jobs run `flow`; `restore_set` is one restore into one directory or several, `root` the work in each. `unpack`
fills the working directory (`workspace`), `compare` finds the steps, `plan` keeps them on the disk, `commit`
does and undoes them, and `recovery` does so after a crash; `difference` only counts.

A crash may change the target's own modification time, and nothing else: it is set back right after the
working directory is made or removed, but no instruction does both at once.
"""
