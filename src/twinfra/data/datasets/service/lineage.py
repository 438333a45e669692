"""Lineage, read out of metadata: up to what data came from, down to what came of it."""

from collections.abc import Iterable

from twinfra.data.datasets.model import Did, DidType
from twinfra.data.datasets.model.lineage import Graph, Record, inputs_of
from twinfra.data.datasets.ports import DidRow, Tx, Work
from twinfra.data.datasets.service.dids import require

MAX_NODES = 2000
FILES_SHOWN = 100


class LineageService:
    """Graphs of where data comes from.

    Args:
        work: opens units of work.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    async def graph(self, did: Did) -> Graph:
        """Return the graph around a data identifier, at most two thousand nodes.

        Raises:
            DidNotFound: there is none.
        """
        graph = Graph()
        async with self._work.read() as tx:
            root = await require(tx, did)
            seen: set[Did] = set()
            front = [root]
            while front and len(graph.nodes) < MAX_NODES:
                nodes = {row.did: row for row in front if row.did not in seen}
                seen |= set(nodes)
                front = await self._widen(tx, graph, list(nodes.values()))
        return graph

    async def _widen(self, tx: Tx, graph: Graph, rows: list[DidRow]) -> list[DidRow]:
        """Add data identifiers with what is next to them; returns what was found beyond."""
        found: list[DidRow] = []
        for row in rows:
            graph.add_record(_record(row))
            found += await self._inside(tx, graph, row)
        for child_id, parent in await tx.contents.parents([row.id for row in rows]):
            child = next(row for row in rows if row.id == child_id)
            graph.link(str(child.did), str(parent.did), "in")
            found.append(parent)
        inputs = {did for row in rows for did in inputs_of(row.meta)}
        found += (await tx.dids.get_many(inputs)).values()
        found += [reader for _, reader in await tx.meta.readers([row.did for row in rows])]
        return found

    @staticmethod
    async def _inside(tx: Tx, graph: Graph, row: DidRow) -> list[DidRow]:
        """Add what stands in a collection: all versions of a container, some files of a dataset."""
        if row.type is DidType.FILE:
            return []
        members: list[DidRow] = []
        async for child in tx.contents.children(row.id):
            if len(members) == FILES_SHOWN:
                break
            members.append(child)
        for child in members:
            graph.link(str(child.did), str(row.did), "in")
        if row.type is DidType.CONTAINER:
            return members
        _add_all(graph, members)
        return []


def _add_all(graph: Graph, rows: Iterable[DidRow]) -> None:
    for row in rows:
        graph.add_record(_record(row))


def _record(row: DidRow) -> Record:
    return Record(row.did, row.type, row.meta, row.size_bytes)
