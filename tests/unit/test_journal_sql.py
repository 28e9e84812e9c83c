"""One package knows the tables: whoever changes one has to look nowhere else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

AGENT = Path(__file__).parents[2] / "agent"
OTHER_DATABASES = (
    AGENT / "formats" / "repository",  # what the device knows of a repository, which can be rebuilt from it
    AGENT / "save" / "database_copier.py",  # databases of the device's programs
)
EXECUTING = {"execute", "executemany", "executescript"}
STATEMENT = re.compile(
    r"\s*(SELECT .* FROM|INSERT INTO|REPLACE INTO|UPDATE \w+ SET|DELETE FROM|PRAGMA )", re.DOTALL
)


def sql_in(source: str) -> Iterator[int]:
    """Lines that execute SQL, or have a text that looks like it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in EXECUTING:
                yield node.lineno
            case ast.Constant(value=str(text)) if STATEMENT.match(text):
                yield node.lineno


def test_all_sql_of_the_journal_is_in_its_package() -> None:
    known = (AGENT / "journal", *OTHER_DATABASES)
    outside = [path for path in AGENT.rglob("*.py") if not any(map(path.is_relative_to, known))]
    assert len(outside) > 100
    found = [f"{path}:{line}" for path in outside for line in sql_in(path.read_text("utf-8"))]
    assert found == []


def test_sql_is_found() -> None:
    assert list(sql_in("db.execute(x)\nread('SELECT a FROM b')\nx = 'UPDATE the list'")) == [1, 2]
