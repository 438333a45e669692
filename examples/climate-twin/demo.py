"""``make demo``: a federation of three sites on this machine, and the climate twin in it.

Where jobs cannot be isolated it says so first of all, with what helps, and goes on; with ``CI``
set in the environment that is a failure in the end.

python examples/climate-twin/demo.py [--home .demo] [--out demo-out] [--resume] [--keep]
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from screen import Screen  # noqa: E402 - stands beside this file
from story import ALL_ISOLATED, Story  # noqa: E402 - as above
from watching import Watch  # noqa: E402 - as above

from twinfra.access.person_tokens import sign_in_here  # noqa: E402 - as above
from twinfra.cli.down import end_federation  # noqa: E402 - as above
from twinfra.cli.session import Session, login_of  # noqa: E402 - as above
from twinfra.cli.up import lay_settings, up  # noqa: E402 - as above
from twinfra.compute.containers.images.build import build_image  # noqa: E402 - as above
from twinfra.compute.containers.images.recipe import read_recipe  # noqa: E402 - as above
from twinfra.compute.containers.keeper.places import remove  # noqa: E402 - as above
from twinfra.core.errors import TwinfraError  # noqa: E402 - as above
from twinfra.core.home import Home  # noqa: E402 - as above
from twinfra.core.service import Context  # noqa: E402 - as above
from twinfra.core.settings import ENVIRONMENT, cache_folder  # noqa: E402 - as above

PERSON = "alice"
RATE_LIMIT_BYTES_PER_S = 4 * 1024 * 1024
STEPS = ("ingest", "deploy", "serve", "keep_current", "keep", "account")


def main() -> int:
    """Run the demo; 0 when every step did what it should."""
    parser = argparse.ArgumentParser(description="The climate twin on a federation of three sites.")
    parser.add_argument("--home", type=Path, default=Path(".demo"))
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run left")
    parser.add_argument("--keep", action="store_true", help="leave the federation running")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1], help="stop after this step")
    wanted = parser.parse_args()
    home = Home(wanted.home.absolute())
    began = time.monotonic()
    with Screen() as screen:
        prepare(home, fresh=not wanted.resume)
        reference = image(screen)
        up(home=home.root, detach=True)
        try:
            not_isolated = asyncio.run(tell(home, wanted, screen, reference))
        finally:
            if not wanted.keep:
                end_federation(home)
    screen.say(
        f"done in {time.monotonic() - began:.0f} s; look again: twinfra up --home {wanted.home}"
    )
    if not_isolated and ENVIRONMENT.get("CI", "").lower() not in {"", "0", "false"}:
        screen.say("demo: CI is set, and jobs that are not isolated are a failure there")
        return 1
    return 0


def prepare(home: Home, *, fresh: bool) -> None:
    """Lay the home: fresh but for unpacked images, with this demo's rate limit."""
    home.root.mkdir(parents=True, exist_ok=True)
    end_federation(home)
    if fresh:
        for path in home.root.iterdir():
            if path.name == "sites":
                for part in (part for site in path.iterdir() for part in site.iterdir()):
                    if part.name != "images":
                        remove(str(part))
            elif path.is_symlink() or path.is_file():
                path.unlink()
            else:
                remove(str(path))
    if not home.settings_file.exists():
        lay_settings(home)
        limit = f"\n[edge]\nrate_limit_bytes_per_s = {RATE_LIMIT_BYTES_PER_S}\n"
        home.settings_file.write_text(home.settings_file.read_text() + limit)
    layout = cache_folder() / "images"
    layout.mkdir(parents=True, exist_ok=True)
    if not home.images.exists():
        home.images.symlink_to(layout)


def image(screen: Screen) -> str:
    """Build the twin's image, or find it built; return its reference by digest."""
    recipe = read_recipe(HERE / "image.toml")
    layout = cache_folder() / "images"
    built = build_image(
        recipe, layout, lambda step, detail: screen.say(f"  image: {step} {detail}")
    )
    return f"{recipe.name}@{built.digest}"


async def tell(home: Home, wanted: argparse.Namespace, screen: Screen, reference: str) -> str:
    """Tell the story, step by step, and the summary; return why jobs are not isolated, if so."""
    context = Context(home)
    tokens = await sign_in_here(context, PERSON, login_of(context))
    async with Session(context, tokens) as session:
        watch = Watch(session, screen.show)
        story = Story(session, watch, screen.say, reference, wanted.out.absolute())
        try:
            await story.providers()
            for step in STEPS[: STEPS.index(wanted.until) + 1]:
                await getattr(story, step)()
        finally:
            await watch.close()
        if wanted.until == STEPS[-1]:
            summary(story, screen)
        return str(story.found["not_isolated"])


def summary(story: Story, screen: Screen) -> None:
    """Print what came of it: first of all whether jobs were isolated."""
    found = story.found
    screen.say(found["not_isolated"] or ALL_ISOLATED)
    candidates = found["placement"]["candidates"]
    factors = sorted({factor["name"] for each in candidates for factor in each["factors"]})
    rows = []
    for each in candidates:
        parts = {factor["name"]: factor["contribution"] for factor in each["factors"]}
        rows.append(
            [each["site"], float(each["score"]), *(float(parts.get(f, 0)) for f in factors)]
        )
    screen.table("why this site", ["site", "score", *factors], rows)
    for each in found["placement"]["excluded"]:
        screen.say(f"not {each['site']}: {each['detail']}")
    model = found["model"]
    screen.table(
        "what the twin knows",
        ["figure", "value"],
        [
            [f"A1B minus E1 in {model['gap_year']} (K)", model["gap_k"]],
            *([f"warming {name} (K)", value] for name, value in model["warming_k"].items()),
            ["held-out error (K)", model["held_out_rmse_k"]],
            ["ensemble members", model["ensemble"]["members"]],
            ["ensemble spread (K)", model["ensemble"]["spread_k"]],
            ["bias of the emulator (K)", model["ensemble"]["bias_k"]],
            ["requests while it was replaced", found["answers"]],
        ],
    )
    screen.table(
        "usage of this deployment",
        ["kind", "site", "person", "group", "records", "CPU seconds", "bytes"],
        usage_rows(found["usage"]),
    )
    for path in sorted(story.out.rglob("*.png")):
        screen.say(f"picture: {os.path.relpath(path)}")
    screen.say(f"lineage: {os.path.relpath(story.out / 'lineage.json')}")


def usage_rows(records: list[dict[str, Any]]) -> list[list[Any]]:
    """Return the usage by kind and site: jobs and transfers add up, storage is the last figure."""
    rows: dict[tuple[str, ...], list[Any]] = {}
    for record in sorted(records, key=lambda record: str(record["ended_at"])):
        key = (record["kind"], record["site"], record["person"]["sub"], record["group"])
        row = rows.setdefault(key, [*key, 0, 0.0, 0])
        row[4] += 1
        row[5] += float(record.get("cpu_s") or 0)
        moved = record.get("size_bytes") or 0
        row[6] = record.get("used_bytes") or row[6] + moved
    return [rows[key] for key in sorted(rows)]


if __name__ == "__main__":
    if os.name != "posix":
        raise SystemExit("the demo needs Linux")
    try:
        sys.exit(main())
    except TwinfraError as error:
        sys.exit(f"demo: {error.detail}")
