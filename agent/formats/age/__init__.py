"""Encrypted archives, in the age v1 format (age-encryption.org/v1), so that the standard tool opens them.

`keys` turns a passcode or a public key into the secret of one file, `header` reads and writes the text
at a file's beginning, `payload` encrypts and opens what follows. Needs the extra `encryption`.
"""
