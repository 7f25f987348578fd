"""The page on stores draws the tables and indexes that an upgrade makes."""

from __future__ import annotations

import contextlib
import pathlib
import re
import sqlite3

ROOT = next(folder for folder in pathlib.Path(__file__).parents if (folder / "pyproject.toml").exists())
PAGE = (ROOT / "docs" / "stores.md").read_text(encoding="utf-8")


def layout(path):
    """Return table -> columns, and index -> columns, of a database."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")] for name in names}
        made = database.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        indexes = {
            name: (table, [row[2] for row in database.execute(f"PRAGMA index_info({name})")]) for name, table in made
        }
    return tables, indexes


def drawn():
    """Return table -> columns, as the picture on the page has them."""
    lines = re.search(r"```text\n(logbooks .*?)```", PAGE, re.DOTALL)[1].splitlines()
    tables = {}
    for top, line in enumerate(lines):
        for title in re.finditer(r"[a-z_]+", line):
            left = title.start()
            if top + 1 < len(lines) and lines[top + 1][left : left + 1] == "┌":
                rows = iter(lines[top + 2 :])
                columns = tables[title[0]] = []
                while (row := next(rows))[left] == "│":
                    columns.append(row[left + 2 :].split()[0])
    return tables


def test_tables_and_indexes_are_those_of_the_page(shop):
    assert shop("db", "upgrade", "--backend", "runs.db").code == 0
    tables, indexes = layout(shop.path / "runs.db")
    assert {name: sorted(columns) for name, columns in drawn().items()} == {
        name: sorted(columns) for name, columns in tables.items()
    }
    rows = re.findall(r"^\| `(taskflowx_\w+)` \| `(\w+)` \((.*?)\) \|", PAGE, re.MULTILINE)
    assert {name: (table, re.findall(r"\w+", columns)) for name, table, columns in rows} == indexes
