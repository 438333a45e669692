"""What the migrations make is what the stores declare: for every service, on both databases."""

import importlib
import re
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text

import twinfra

SOURCE = Path(twinfra.__file__).parent
DECLARED = re.compile(r"^(\w+)(?:: MetaData)? = MetaData\(", re.MULTILINE)
ROOMS = sorted(path.parent for path in SOURCE.rglob("migrations/__init__.py"))
ROOMS = [room.parent for room in ROOMS]


def dotted(path):
    return ".".join(("twinfra", *path.relative_to(SOURCE).with_suffix("").parts))


def declared(room) -> MetaData:
    """Return the one set of tables that the room declares."""
    found = [
        getattr(importlib.import_module(dotted(path)), name)
        for path in sorted(room.rglob("*.py"))
        if "migrations" not in path.parts
        for name in DECLARED.findall(path.read_text())
    ]
    assert len(found) == 1, f"{room} declares {len(found)} sets of tables"
    return found[0]


@pytest.fixture(params=ROOMS, ids=lambda room: str(room.relative_to(SOURCE)))
def room(request):
    return request.param


def differences(metadata):
    def compare(connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [
            one
            for one in compare_metadata(context, metadata)
            if not (one[0] == "remove_table" and one[1].name == "alembic_version")
        ]

    return compare


async def shape(database):
    """Return all that can be seen of the tables."""

    def look(connection):
        inspector = inspect(connection)
        tables = sorted(inspector.get_table_names())
        columns = {name: str(inspector.get_columns(name)) for name in tables}
        indexes = {name: str(inspector.get_indexes(name)) for name in tables}
        return columns, indexes

    async with database.begin() as connection:
        version = (await connection.execute(text("SELECT version_num FROM alembic_version"))).all()
        return await connection.run_sync(look), version


def test_rooms_with_tables_are_found_when_they_have_migrations():
    assert {room.name for room in ROOMS} >= {"datasets", "transfers", "edge", "issuer", "plugin"}
    with_store = {
        path for path in SOURCE.rglob("*.py") if DECLARED.search(path.read_text())
    }  # fmt: skip
    without = [path for path in with_store if not any(room in path.parents for room in ROOMS)]
    assert without == []


@pytest.mark.story(
    "SQLite and PostgreSQL behind the same code, migrations with Alembic from the first table"
)
async def test_migrated_tables_equal_declared_ones_when_all_revisions_ran(room, database):
    metadata = declared(room)
    assert metadata.tables
    await database.migrate(f"{dotted(room)}.migrations")
    async with database.begin() as connection:
        assert await connection.run_sync(differences(metadata)) == []


async def test_nothing_changes_when_migrated_again(room, database):
    package = f"{dotted(room)}.migrations"
    await database.migrate(package)
    before = await shape(database)
    await database.migrate(package)
    assert await shape(database) == before


@pytest.mark.story("store contracts, migrations on both")
async def test_nothing_is_left_when_all_revisions_are_undone(room, database):
    package = f"{dotted(room)}.migrations"
    await database.migrate(package)
    folder = str(room / "migrations")
    scripts = ScriptDirectory(folder, version_locations=[folder])

    def undo(connection):
        with Operations.context(MigrationContext.configure(connection)):
            for revision in scripts.walk_revisions():
                revision.module.downgrade()
        return inspect(connection).get_table_names()

    async with database.begin() as connection:
        assert await connection.run_sync(undo) == ["alembic_version"]


def test_revisions_stand_in_one_line_when_there_are_several(room):
    folder = str(room / "migrations")
    scripts = ScriptDirectory(folder, version_locations=[folder])
    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1
