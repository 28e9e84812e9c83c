"""System calls as strace recorded them, in the order in which they ended, with all the bytes."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHANGING = (
    "openat,open,creat,lseek,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,fsync,fdatasync,syncfs,"
    "sync,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,chmod,"
    "fchmod,fchmodat,chown,fchown,lchown,fchownat,utimensat,utime,setxattr,lsetxattr,fsetxattr,"
    "removexattr,lremovexattr,fremovexattr"
)
_TRACED = ",".join(f"?{name}" for name in [*CHANGING.split(","), "sendto"])  # "?": where it exists
OPTIONS = ("-f", "-qqq", "-y", "-s", "16777216", "--seccomp-bpf", "-e", f"trace={_TRACED}")
"""For strace: what the parser below expects."""

_LINE = re.compile(r"(?P<tid>\d+) +(?P<rest>.*)", re.DOTALL)
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_PART = re.compile(r'"(?:[^"\\]|\\.)*"(?:\.\.\.)?|[\[{]|[\]}]|,|[^",\[\]{}]+', re.DOTALL)
_FILE = re.compile(r"(?P<fd>-?\d+|AT_FDCWD)(?:<(?P<path>.*)>(?:\(deleted\))?)?$", re.DOTALL)


@dataclass(frozen=True)
class Recorded:
    """A call that succeeded. `arguments` are texts as strace writes them."""

    name: str
    arguments: list[str]
    result: int

    def text(self, number: int) -> str:
        """A path among the arguments."""
        return self.data(number).decode("utf-8", "surrogateescape")

    def data(self, number: int) -> bytes:
        argument = self.arguments[number]
        assert argument.endswith('"'), f"cut off: {argument[:80]}"
        return codecs.escape_decode(argument[1:-1].encode("latin-1"))[0]

    def file(self, number: int) -> tuple[str, str]:
        """A descriptor, and the path that it had then."""
        found = _FILE.match(self.arguments[number])
        assert found, self.arguments
        return found["fd"], found["path"] or ""


def read(log: Path) -> Iterator[Recorded]:
    """All calls that succeeded, each when it had ended."""
    begun: dict[str, str] = {}
    for line in log.read_text("latin-1").split("\n"):
        found = _LINE.match(line)
        if not found:
            continue
        tid, rest = found["tid"], found["rest"]
        if rest.endswith("<unfinished ...>"):
            begun[tid] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := _RESUMED.match(rest):
            rest = begun.pop(tid) + rest[resumed.end() :]
        call = _CALL.match(rest)
        if call and int(call["result"]) >= 0:
            yield Recorded(call["name"], _split(call["arguments"]), int(call["result"]))


def _split(arguments: str) -> list[str]:
    parts, current, depth = [], "", 0
    for piece in _PART.findall(arguments):
        depth += (piece in "[{") - (piece in "]}")
        if piece == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += piece
    return [*parts, current.strip()]
