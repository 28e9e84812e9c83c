"""Formats of archives: ZIP files, and the age format that encrypts them."""
