"""The home folder: ports and secrets that stay."""

import json
import multiprocessing
import stat

import pytest

from twinfra.core.home import Home
from twinfra.testkit.ports import LOOPBACK, listening

NAMES = [f"service-{number}" for number in range(12)]


def _ask(root, names, answers):
    home = Home(root)
    answers.put(({name: home.port(name) for name in names}, home.secret("shared")))


def test_a_port_stays_when_the_home_is_opened_again(home):
    port = home.port("datasets")
    assert Home(home.root).port("datasets") == port
    assert home.ports() == json.loads(home.ports_file.read_text()) == {"datasets": port}


def test_ports_are_apart_and_free_when_many_are_given(home):
    ports = [home.port(name) for name in NAMES]
    assert len(set(ports)) == len(NAMES)
    assert all(20000 <= port < 32000 for port in ports)
    assert not any(listening(port, LOOPBACK) for port in ports)


def test_no_ports_are_known_when_none_was_given(home):
    assert home.ports() == {}


def test_two_processes_agree_when_they_ask_at_once(tmp_path):
    many = multiprocessing.get_context("forkserver")
    answers = many.Queue()
    orders = [NAMES, NAMES[::-1]]
    askers = [many.Process(target=_ask, args=(tmp_path / "home", o, answers)) for o in orders]
    for asker in askers:
        asker.start()
    (ports, secret), (same_ports, same_secret) = answers.get(timeout=60), answers.get(timeout=60)
    for asker in askers:
        asker.join(timeout=60)
        assert asker.exitcode == 0
    assert ports == same_ports
    assert len(set(ports.values())) == len(NAMES)
    assert secret == same_secret


def test_a_secret_stays_and_is_ours_alone_when_made(home):
    secret = home.secret("clients/transfers")
    path = home.secrets / "clients" / "transfers"
    assert Home(home.root).secret("clients/transfers", make=lambda: "another") == secret
    assert len(secret) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["transfers"]


def test_a_secret_is_what_is_made_when_the_maker_is_ours(home):
    assert home.secret("name", make=lambda: "made\n") == "made"


def test_half_a_draft_is_no_secret_when_a_maker_fails(home):
    def fail():
        raise RuntimeError("no entropy")

    with pytest.raises(RuntimeError):
        home.secret("name", make=fail)
    assert home.secret("name", make=lambda: "second") == "second"


def test_folders_exist_when_they_are_asked_for(home):
    site = home.site("hpc-b")
    folders = [
        home.tls,
        home.db,
        home.nats,
        home.logs,
        site.storage,
        site.jobs,
        site.images,
        site.db,
    ]
    assert all(folder.is_dir() for folder in folders)
    assert site.root == home.root / "sites" / "hpc-b"
    assert not home.settings_file.exists()


def test_jobs_images_and_storage_stand_where_nodes_see_them_when_they_are_shared(home, tmp_path):
    shared = tmp_path / "shared"
    site = home.site("hpc-a")
    assert site.jobs.is_relative_to(home.root)
    site.share(shared)
    site.share(shared)
    assert (site.jobs, site.images) == (shared / "jobs", shared / "images")
    assert site.storage == shared / "storage"
    assert site.db.is_relative_to(home.root)


def test_nothing_is_hidden_when_a_folder_to_be_shared_is_in_use(home, tmp_path):
    site = home.site("hpc-a")
    (site.jobs / "x").mkdir()
    with pytest.raises(ValueError, match="move what it holds"):
        site.share(tmp_path / "shared")
    assert (site.jobs / "x").is_dir()
