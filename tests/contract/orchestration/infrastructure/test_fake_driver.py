"""The driver in memory keeps the driver's contract."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from twinfra.orchestration.infrastructure.model import Target
from twinfra.testkit.driver_contract import DriverContract
from twinfra.testkit.fake_driver import FakeDriver


class FakeRig:
    """The fake, and its one site."""

    def __init__(self, folder):
        self.driver = FakeDriver(folder)
        self.target = Target("hpc-b", "https://hpc-b.example", "HPC-B")
        self.servers = []

    @property
    def site(self):
        return self.driver.site("hpc-b")

    async def finish(self, uid, exit_code, log=""):
        self.driver.finish(uid, exit_code, log)

    async def lose(self, uid):
        self.driver.lose(uid)

    async def serve(self, uid, answer):
        async def greet(reader, writer):
            writer.write(answer)
            await writer.drain()
            writer.close()

        door = str(self.driver.door(uid))
        self.servers.append(await asyncio.start_unix_server(greet, door))

    def reject(self, reason):
        self.site.refuses = reason

    def go_away(self):
        self.site.away = True

    def lose_next_answer(self):
        self.site.answers_to_lose = 1

    def starts(self, uid):
        return self.site.pods[uid].starts


class TestFakeDriver(DriverContract):
    """All questions of the contract."""

    @pytest.fixture
    async def rig(self):
        with tempfile.TemporaryDirectory(prefix="twinfra-") as folder:
            made = FakeRig(Path(folder))
            yield made
            for server in made.servers:
                server.close()
