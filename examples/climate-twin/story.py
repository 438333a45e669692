"""The story of the twin, step by step, through the public APIs alone: post, watch, download."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import iris_sample_data
from watching import Client, Watch

from twinfra.accounting.client import Filter, to_json
from twinfra.cli.session import Session
from twinfra.core.bus import Event
from twinfra.core.errors import NotFound
from twinfra.data.datasets.client import Did, NewCollection, NewRule
from twinfra.data.storage.client import storage_at
from twinfra.orchestration.catalogue.client import Provider

HERE = Path(__file__).parent
DATA = Path(iris_sample_data.path)
SITES = ("cloud-a", "edge-c", "hpc-b")
GROUP, INSTRUMENT, ARCHIVE = "climate", "edge-c", "site=cloud-a"
SCENARIOS, ENSEMBLE, MODEL = (Did(GROUP, name) for name in ("scenarios", "ensemble", "model"))
REQUESTS_PER_S = 50
ALL_ISOLATED = "all sites isolate their jobs"
Say = Callable[[str], None]


@dataclass
class Story:
    """One run of the twin: what each step found, for the summary.

    Args:
        session: of the person who runs the twin.
        watch: the federation's events.
        say: one line for the person at the screen.
        image: reference of the twin's container, by digest.
        out: folder for what is downloaded.
    """

    session: Session
    watch: Watch
    say: Say
    image: str
    out: Path
    deployment: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    async def providers(self) -> None:
        """Wait for the sites, look at them once, and note whether jobs are isolated."""
        for site in SITES:
            try:
                await self.session.monitoring.probe(site)
            except NotFound:
                await self.watch.until(is_up(site))
        listed = await self.session.catalogue.providers()
        self.found["not_isolated"] = not_isolated(each.provider for each in listed)
        self.say(self.found["not_isolated"] or ALL_ISOLATED)

    async def ingest(self) -> None:
        """Register what lands at the instrument, by triggers, and put the scenarios there."""
        datasets = self.session.datasets
        new = [NewCollection(SCENARIOS), NewCollection(ENSEMBLE)]
        await datasets.dids_add(new, exist_ok=True)
        for did in (SCENARIOS, ENSEMBLE):
            await self.session.notifications.create_trigger(
                INSTRUMENT, f"/incoming/{did.name}", str(did), name=f"register-{did.name}"
            )
        files = sorted(DATA.glob("*_north_america.nc"))
        for path in files:
            await self._put(path, "scenarios")
        await self.watch.until(joined(SCENARIOS), count=len(files))
        self.say(f"{len(files)} scenarios registered in {SCENARIOS}")

    async def deploy(self) -> None:
        """Ask for the twin: training first, then the service, then it keeps itself current."""
        body = {
            "template": (HERE / "twin.yaml").read_text(),
            "parameters": {"image": self.image},
            "userGroup": GROUP,
        }
        reply = await self._deployments("POST", "/deployments", json=body)
        self.deployment = reply["uuid"]
        self.say(f"deployment {self.deployment} accepted")
        await self.watch.until(lambda e: e.type == "org.twinfra.rule.ok")
        placed = await self._of("placement")
        chosen = next(each for each in placed if each["node"] == "train")
        self.found["placement"] = chosen
        best = chosen["candidates"][0]
        why = max(best["factors"], key=lambda factor: factor["contribution"])
        self.say(f"training goes to {chosen['chosen']}: {why['why']}")

    async def serve(self) -> None:
        """Wait until the deployment is complete, and ask the service a question."""
        state = await self.watch.until(self._ended, within_s=300)
        document = await self._of("")
        if state.data["status"] != "CREATE_COMPLETE":
            raise RuntimeError(f"{document['status']}: {document['statusReason']}")
        self.found["url"] = document["outputs"]["url"]
        answer = await self.ask("predict?year=2050&scenario=A1B")
        self.say(f"the service answers: A1B in 2050 is {answer['temperature_k'] - 273.15:.2f} °C")

    async def keep_current(self) -> None:
        """Let the members land one by one; close the ensemble; see the twin replace its model."""
        members = sorted((DATA / "GloSea4").glob("ensemble_*.pp"))
        for path in members:
            await self._put(path, "ensemble")
        await self.watch.until(is_prediction, count=len(members))
        await self.watch.until(joined(ENSEMBLE), count=len(members))
        self.say(f"{len(members)} members landed, as many predictions on the bus")
        await self.session.datasets.close(ENSEMBLE)
        await self.watch.until(new_version, count=2, within_s=300)
        client = Client(self._ping_service, REQUESTS_PER_S)
        try:
            await self.watch.until(serves, count=2, within_s=120)
            await self.watch.until(retired)
        finally:
            self.found["answers"] = await client.stop()
        model = await self.ask("model")
        self.found["model"] = model
        self.say(f"model version {model['version']} serves; answers: {self.found['answers']}")

    async def keep(self) -> None:
        """Keep the model in the archive by rule and download what the twin made."""
        version = await self.session.datasets.resolve(MODEL)
        rule = await self.session.datasets.add_rule(NewRule(version, 1, ARCHIVE))
        await self.watch.until(
            lambda e: e.type == "org.twinfra.rule.ok" and e.data["rule_id"] == rule
        )
        self.out.mkdir(parents=True, exist_ok=True)
        for each in await self.session.datasets.list_versions(MODEL):
            for replica in await self.session.datasets.list_replicas([each.did]):
                url = next(url for urls in replica.pfns.values() for url in urls)
                await self._get(url, self.out / each.did.name / Path(replica.did.name).name)
        self.say(f"{MODEL} kept at {ARCHIVE}, downloaded to {os.path.relpath(self.out)}")

    async def account(self) -> None:
        """Collect the usage records and the lineage."""
        wanted = Filter(deployment=self.deployment)
        page = await self.session.accounting.records(wanted)
        self.found["usage"] = [to_json(record) for record in page.records]
        job = next(row["id"] for row in self.found["usage"] if row["kind"] == "job")
        self.found["apel"] = await self.session.accounting.apel(job)
        self.found["lineage"] = await self.session.datasets.lineage(MODEL)
        (self.out / "lineage.json").write_text(json.dumps(self.found["lineage"], indent=2))
        (self.out / "usage.json").write_text(json.dumps(self.found["usage"], indent=2))
        self.say(f"{len(self.found['usage'])} usage records")

    async def ask(self, question: str) -> dict[str, Any]:
        """Return the service's answer to a question."""
        return dict(
            (
                await self.session.http("deployments").request("GET", self.found["url"] + question)
            ).json()
        )

    async def _ping_service(self) -> int:
        url = self.found["url"] + "predict?year=2030&scenario=E1"
        return (await self._door.request("GET", url)).status

    async def _put(self, path: Path, folder: str) -> None:
        url = f"{self.session.context.url(f'edge@{INSTRUMENT}')}/dav/incoming/{folder}/{path.name}"
        async with storage_at(url, self.session.storage(url)) as (storage, place):
            await storage.write(place, path.read_bytes())

    async def _get(self, url: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        async with storage_at(url, self.session.storage(url)) as (storage, place):
            path.write_bytes(b"".join([block async for block in storage.read(place)]))

    def __post_init__(self) -> None:
        self._door = self.session.http("deployments")

    async def _deployments(self, method: str, path: str, **more: Any) -> Any:
        return (await self._door.request(method, path, **more)).json()

    async def _of(self, part: str) -> Any:
        path = f"/deployments/{self.deployment}"
        return await self._deployments("GET", f"{path}/{part}" if part else path)

    def _ended(self, event: Event) -> bool:
        if event.type != "org.twinfra.deployment.state" or event.data["uuid"] != self.deployment:
            return False
        return event.data["status"] in {"CREATE_COMPLETE", "CREATE_FAILED"}


def not_isolated(providers: Iterable[Provider]) -> str:
    """Return which sites do not isolate jobs, why, and what would help; empty: all do."""
    lacking = [each for each in providers if "isolated" not in each.capabilities]
    if not lacking:
        return ""
    lacking.sort(key=lambda each: (not each.containers.available, each.name))
    bare = [each.name for each in lacking if each.containers.available]
    none = [each.name for each in lacking if not each.containers.available]
    said = [f"jobs at {', '.join(bare)} are NOT isolated"] if bare else []
    said += [f"{', '.join(none)} takes no jobs"] if none else []
    first = lacking[0].containers
    fix = f"; what helps: {first.fix}" if first.fix else ""
    return f"{', '.join(said)}: {first.why_not}{fix}"


def is_up(site: str) -> Callable[[Event], bool]:
    """Return what recognises that `site` is up."""
    return lambda e: e.type == "org.twinfra.site.up" and e.data["site"] == site


def joined(did: Did) -> Callable[[Event], bool]:
    """Return what recognises a file that joined `did`."""
    return lambda e: e.type == "org.twinfra.dataset.file-added" and e.data["dataset"] == str(did)


def is_prediction(event: Event) -> bool:
    """Recognise a prediction of the twin."""
    return event.type == "org.climate.prediction"


def serves(event: Event) -> bool:
    """Recognise that a version of the inference service has begun to answer."""
    return _phase(event) == ("inference", "SERVING")


def retired(event: Event) -> bool:
    """Recognise that a replaced version has answered its last request."""
    return _phase(event) == ("inference", "RETIRED")


def _phase(event: Event) -> tuple[str | None, str | None]:
    data = event.data if isinstance(event.data, dict) else {}
    return data.get("node"), data.get("phase")


def new_version(event: Event) -> bool:
    """Recognise a new version of the model."""
    return event.type == "org.twinfra.dataset.version-added" and event.data["name"] == MODEL.name
