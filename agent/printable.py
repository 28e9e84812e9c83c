"""Texts for a terminal or a log line that come from somebody else."""


def printable(text: str) -> str:
    """Control characters escaped: a name from a hostile message must not forge lines or drive a terminal."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
