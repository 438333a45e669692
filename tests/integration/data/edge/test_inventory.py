"""The inventory in SQL: each change once, whoever tells it, whole subtrees, bounded memory."""

import asyncio

import pytest

from twinfra.data.edge.inventory.changes import FilePut, FolderMade, Moved, Removed
from twinfra.data.edge.inventory.inventory import Inventory
from twinfra.data.edge.inventory.store import MIGRATIONS, InventoryStore
from twinfra.data.edge.model import Checksums, Known, Version
from twinfra.testkit.clock import VirtualClock

SUMS = Checksums("00000001", "0" * 32, "0" * 64)
OTHER = Checksums("00000002", "1" * 32, "1" * 64)


@pytest.fixture
async def inventory(sqlite):
    await sqlite.migrate(MIGRATIONS)
    made = Inventory(InventoryStore(sqlite), VirtualClock(), site="s", rse="S")
    await made.load()
    yield made
    await made.close()


def put(path, number=1, sums=SUMS, **more):
    return FilePut(path, Version(number, 10, number), sums, **more)


async def told(inventory):
    return [
        (row["change"], row["path"], row["cookie"]) for row in await inventory.events(0, 10_000)
    ]


async def test_change_is_told_once_when_two_tell_it(inventory):
    await asyncio.gather(*(inventory.record(put("/f")) for _ in range(20)))
    await inventory.record(put("/f", 2))
    await inventory.record(Removed("/f"))
    await inventory.record(Removed("/f"))
    await inventory.record(Removed("/never"))
    changes = [(change, path) for change, path, _ in await told(inventory)]
    assert changes == [("created", "/f"), ("modified", "/f"), ("deleted", "/f")]


async def test_touched_file_is_told_only_when_its_bytes_differ(inventory):
    await inventory.record(put("/f"))
    later = Version(1, 10, 99)
    await inventory.record(FilePut("/f", later, SUMS, rewritten=False))
    assert await inventory.known("/f") == Known("/f", later, SUMS)
    await inventory.record(FilePut("/f", Version(1, 10, 100), OTHER, rewritten=False))
    changes = [change for change, _, _ in await told(inventory)]
    assert changes == ["created", "modified"]


async def test_move_carries_a_whole_subtree(inventory):
    await inventory.record(FolderMade("/a"), FolderMade("/a/b"), put("/a/b/f"), put("/a0", 3))
    await inventory.record(put("/a/g", 2))
    await inventory.record(Moved("/a", "/z", "cookie"))
    changes = (await told(inventory))[5:]
    assert changes == [
        ("deleted", "/a/g", None),
        ("deleted", "/a/b/f", None),
        ("deleted", "/a/b", None),
        ("deleted", "/a", "cookie"),
        ("created", "/z", "cookie"),
        ("created", "/z/b", None),
        ("created", "/z/b/f", None),
        ("created", "/z/g", None),
    ]
    assert set(await inventory.children("/z")) == {"/z/b", "/z/g"}
    assert set(await inventory.children("/z/b")) == {"/z/b/f"}
    assert await inventory.children("/a") == {}
    assert (await inventory.known("/a0")) is not None


async def test_move_onto_a_file_modifies_it_and_onto_a_folder_deletes_it(inventory):
    await inventory.record(put("/a"), put("/b", 2), FolderMade("/d"), put("/d/x", 3))
    await inventory.record(Moved("/a", "/b", "c1"))
    await inventory.record(Moved("/b", "/d", "c2"))
    assert (await told(inventory))[4:] == [
        ("deleted", "/a", "c1"),
        ("modified", "/b", "c1"),
        ("deleted", "/d/x", None),
        ("deleted", "/d", None),
        ("deleted", "/b", "c2"),
        ("created", "/d", "c2"),
    ]


async def test_folder_in_the_place_of_a_file_is_told_as_both(inventory):
    await inventory.record(put("/x"))
    await inventory.record(FolderMade("/x"), put("/x/f", 2))
    await inventory.record(put("/x", 3))
    changes = [(change, path) for change, path, _ in await told(inventory)]
    assert changes == [
        ("created", "/x"),
        ("deleted", "/x"),
        ("created", "/x"),
        ("created", "/x/f"),
        ("deleted", "/x/f"),
        ("deleted", "/x"),
        ("created", "/x"),
    ]


async def test_names_with_every_character_keep_apart(inventory):
    names = ["/a%", "/a_", "/a", "/a/b", "/a'b", "/a0", "/é", "/日本"]
    await inventory.record(
        FolderMade("/a"), *(put(name, i + 1) for i, name in enumerate(names) if name != "/a")
    )
    await inventory.record(Removed("/a"))
    left = {name for name in names if await inventory.known(name)}
    assert left == {"/a%", "/a_", "/a'b", "/a0", "/é", "/日本"}


async def test_old_events_are_dropped_and_numbers_never_used_again(inventory, sqlite):
    store, clock = InventoryStore(sqlite), inventory._clock
    for number in range(1, 6):
        await inventory.record(put("/f", number))
    await store.prune(clock.now(), keep=2)
    assert await store.bounds() == (4, 5)
    await clock.advance(10)
    await store.prune(clock.now(), keep=2)
    assert await store.bounds() == (6, 5)
    await inventory.record(put("/f", 9))
    assert await store.bounds() == (6, 6)
    again = Inventory(store, clock, site="s", rse="S")
    await again.load()
    assert again.newest == 6


async def test_event_ids_stay_the_same_after_a_restart(inventory, sqlite):
    await inventory.record(put("/f"))
    (row,) = await inventory.events(0, 10)
    again = Inventory(InventoryStore(sqlite), VirtualClock(), site="s", rse="S")
    await again.load()
    assert again.event_of(row) == inventory.event_of(row)


async def test_waiting_for_news_ends_when_something_happens(inventory):
    assert not await inventory.news(0, 0.01)
    waiting = asyncio.create_task(inventory.news(0, 5))
    await asyncio.sleep(0)
    await inventory.record(put("/f"))
    assert await waiting
    assert await inventory.news(0, 0)
    assert not await inventory.news(1, 0.01)


async def test_holds_of_paths_exclude_each_other_in_any_order(inventory):
    order = []

    async def work(name, *paths):
        async with inventory.changing(*paths):
            order.append(f"{name} in")
            await asyncio.sleep(0.01)
            order.append(f"{name} out")

    await asyncio.gather(work("1", "/a", "/b"), work("2", "/b", "/a"), work("3", "/b", "/b"))
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert all(first[0] == second[0] for first, second in pairs)
    assert not inventory._held
