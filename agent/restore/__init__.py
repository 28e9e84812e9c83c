"""Restoring, all or nothing: a failure, a cancel or a crash leaves the target entirely old or entirely new.

`flow` is what jobs run, `restore_set` one restore into one directory or several, `root` what is done in each.
`unpack` fills the working directory (`workspace`), `compare` finds out what has to happen, `plan` keeps that
on the disk, `commit` does and undoes it, and `recovery` after a crash; `difference` only counts.

The target's own modification time is the one thing that a crash may change: it is put back right after
the working directory is made and removed, and nothing can join the two instructions.
"""
