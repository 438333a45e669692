"""What a log query means, and what of it is asked of the site."""

from dataclasses import replace

import pytest

from twinfra.compute.kubelet.door.auth import of_certificate, subresources
from twinfra.compute.kubelet.door.channels import failure_text
from twinfra.compute.kubelet.door.errors import Refused
from twinfra.compute.kubelet.door.logs import LogOptions, container_of, lines_of, options_of
from twinfra.compute.kubelet.door.ports import DoorContainer, DoorPod

POD = DoorPod(
    "default",
    "train-0",
    "0f8fad5b-d9cb-469f-a165-70867728950e",
    containers=(
        DoorContainer("main", state="running"),
        DoorContainer("next", state="waiting", reason="ErrImagePull"),
        DoorContainer("new"),
        DoorContainer("fetch", init=True, state="terminated"),
    ),
)


class Site:
    """Answers with lines; keeps what it was asked."""

    def __init__(self, *pieces):
        self.pieces, self.asked = pieces, []

    async def follow_logs(self, request):
        self.asked.append(request)
        pieces = self.pieces[-1:] if request.tail_lines == 1 else self.pieces
        for piece in pieces:
            yield piece


async def read(site, options):
    return b"".join([piece async for piece in lines_of(site, POD, "main", options)])


def test_every_option_is_read():
    found = options_of(
        {"follow": "true", "timestamps": "1", "previous": "T", "tailLines": "5", "limitBytes": "9"}
    )
    assert found == LogOptions(
        follow=True, timestamps=True, previous=True, tail_lines=5, limit_bytes=9
    )
    assert options_of({"tail": "all", "sinceSeconds": "3"}) == LogOptions(since_s=3)
    assert options_of({"sinceTime": "2030-01-01T00:00:00Z"}).since_at.year == 2030


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"tailLines": "many"}, 400),
        ({"limitBytes": "1.5"}, 400),
        ({"limitBytes": "99999999999999999999"}, 400),
        ({"follow": "maybe"}, 400),
        ({"sinceTime": "yesterday"}, 400),
        ({"stream": "Stderr"}, 400),
        ({"tailLines": "-1"}, 422),
        ({"limitBytes": "0"}, 422),
        ({"sinceSeconds": "0"}, 422),
        ({"sinceSeconds": "1", "sinceTime": "2030-01-01T00:00:00Z"}, 422),
    ],
)
@pytest.mark.story("Every malformed body on every path: 4xx, server up.")
def test_a_bad_value_is_refused(query, status):
    with pytest.raises(Refused) as caught:
        options_of(query)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("name", "options", "status", "words"),
    [
        ("other", LogOptions(), 404, 'container "other" not found in pod "train-0"'),
        ("next", LogOptions(), 400, "is waiting to start: image can't be pulled"),
        ("new", LogOptions(), 400, "is not available"),
        ("main", LogOptions(previous=True), 400, "previous terminated container"),
    ],
)
def test_a_container_without_a_log_is_refused_in_the_kubelets_words(name, options, status, words):
    with pytest.raises(Refused) as caught:
        container_of(POD, name, options)
    assert caught.value.status == status
    assert words in caught.value.text


def test_init_containers_and_earlier_runs_have_logs():
    assert container_of(POD, "fetch", LogOptions()).init
    again = DoorContainer("main", state="waiting", reason="CrashLoopBackOff", ran_before=True)
    pod = replace(POD, containers=(again,))
    assert container_of(pod, "main", LogOptions(previous=True)) == again
    assert container_of(pod, "main", LogOptions()) == again


async def test_tail_and_limit_together_are_cut_here():
    site = Site(b"line 3\n", b"line 4\n")
    assert await read(site, LogOptions(tail_lines=2, limit_bytes=9)) == b"line 3\nli"
    (asked,) = site.asked
    assert (asked.tail_lines, asked.limit_bytes) == (2, 0)
    asked.check()


async def test_a_tail_of_zero_asks_for_nothing():
    site = Site(b"line\n")
    assert await read(site, LogOptions(tail_lines=0)) == b""
    assert site.asked == []


async def test_following_from_a_tail_of_zero_gives_only_what_comes_later():
    site = Site(b"2030-01-01T00:00:01.5Z old\n", b"2030-01-01T00:00:0", b"2.5Z new one\n")
    site.pieces = (b"2030-01-01T00:00:01.5Z old\n2030-01-01T00:00:0", b"2.5Z new one\n")
    last = Site(b"2030-01-01T00:00:01.5Z old\n")

    class Growing(Site):
        async def follow_logs(self, request):
            source = last if request.tail_lines == 1 else site
            async for piece in source.follow_logs(request):
                yield piece

    assert await read(Growing(), LogOptions(tail_lines=0, follow=True)) == b"new one\n"
    assert site.asked[0].since_at.second == 1


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/containerLogs/ns/pod/c", ("proxy",)),
        ("/exec/ns/pod/c", ("proxy",)),
        ("/stats/summary", ("stats",)),
        ("/metrics/resource", ("metrics",)),
        ("/logs/", ("log",)),
        ("/pods", ("pods", "proxy")),
        ("/runningpods/", ("pods", "proxy")),
        ("/healthz", ("healthz", "proxy")),
        ("/statsother", ("proxy",)),
    ],
)
def test_paths_ask_for_the_kubelets_sub_resources(path, wanted):
    assert subresources(path) == wanted


def test_a_certificate_names_user_and_groups():
    subject = ((("organizationName", "ops"),), (("commonName", "alice"),))
    user = of_certificate({"subject": subject})
    assert (user.username, user.groups) == ("alice", ["ops", "system:authenticated"])
    assert of_certificate({}) is None
    assert of_certificate({"subject": ((("organizationName", "ops"),),)}) is None


def test_old_versions_hear_of_a_failure_as_text():
    assert failure_text(b'{"status":"Success"}') == b""
    assert failure_text(b'{"status":"Failure","message":"exit 3"}') == b"exit 3"
    assert failure_text(b"broken") == b"broken"
