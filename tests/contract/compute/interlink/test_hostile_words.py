"""Words of a pod that would be dangerous in a command line: data, or refused with the field's name.

The list is research/accounting-aai-policy.md, 8.5.
"""

from dataclasses import replace

import pytest

from twinfra.compute.containers.images.names import Names
from twinfra.compute.containers.images.pulling import PullingStore
from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.interlink.client import PodCreateRequest
from twinfra.core.errors import TwinfraError
from twinfra.testkit.waiting import wait_for

IMAGES = (
    "--privileged busybox",
    "busybox:1 --volume=/:/host",
    "-v",
    "$(touch /tmp/pwned)",
    "`id`",
    "busybox:1;id",
    "busybox:1\n#SBATCH --uid=0",
    "busybox\0:1",
    "../../../etc:1",
    "docker-archive:/etc/passwd",
    "oci:/etc:1",
    "http://169.254.169.254/latest:1",
    "file:///etc/passwd",
    "busybox@sha256:../../x",
    "a" * 100_000,
)
NAMES = ("BASH_ENV", "ENV", "LD_PRELOAD", "LD_LIBRARY_PATH", "SLURM_CONF", "SLURM_JOB_ID",
         "SBATCH_UID", "PROOT_LOADER", "PYTHONPATH")  # fmt: skip
PLACES = ("command", "args", "env value", "env name", "workingDir", "mount")


def spoiled(body, place, word):
    """Put a word into one place of a pod."""
    main = body["spec"]["containers"][0]
    match place:
        case "command" | "args":
            main[place] = ["/bin/echo", word]
        case "env value":
            main["env"] = [{"name": "EVIL", "value": word}]
        case "env name":
            main["env"] = [{"name": word, "value": "x"}]
        case "workingDir":
            main["workingDir"] = word
        case "mount":
            main["volumeMounts"] = [{"name": "v", "mountPath": word}]
            body["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    return body


async def launched(house, body):
    """Have a pod made; return what its container would be started with."""
    uid = body["metadata"]["uid"]
    await house.client().create(PodCreateRequest(body))
    await wait_for(lambda: uid in house.site.submissions, what="the job", timeout_s=30)
    spec = next(job.spec for job in house.site.jobs.values() if job.spec.name == uid)
    return spec, spec.plan.containers[0].launch


async def refusal(house, body):
    with pytest.raises(TwinfraError) as refused:
        await house.client().create(PodCreateRequest(body))
    assert 400 <= refused.value.status < 500, refused.value
    assert not house.site.submissions
    assert (await house.client().ping()).extensions  # the site is up
    return refused.value.detail


class TestImages:
    @pytest.fixture
    def foundation(self, tmp_path, foundation):
        pulled = tmp_path / "pulled"
        store = ImageStore([pulled], tmp_path / "unpacked")
        images = PullingStore(store, pulled, Names(registries=frozenset({"127.0.0.1:9"})))
        return replace(foundation, images=images)

    @pytest.mark.story("hostile image references are refused, the text names the field")
    @pytest.mark.parametrize("image", IMAGES, ids=range(len(IMAGES)))
    async def test_is_refused_when_it_is_no_image(self, house, pod, image):
        body = pod()
        body["spec"]["containers"][0]["image"] = image
        assert "spec.containers[0].image" in await refusal(house, body)


@pytest.mark.story("env names BASH_ENV, SLURM_*, LD_PRELOAD are the container's alone")
@pytest.mark.parametrize("name", NAMES)
async def test_a_dangerous_name_is_the_containers_alone(house, pod, name):
    spec, launch = await launched(house, spoiled(pod(), "env name", name))
    assert launch.inner_env[name] == "x"
    assert name not in spec.native_options


@pytest.mark.parametrize("place", PLACES)
async def test_nul_is_refused_where_it_cannot_be_data(house, pod, place):
    await refusal(house, spoiled(pod(), place, "/a\0b"))


@pytest.mark.parametrize("name", ["", "A=B", "A\0B"])
async def test_what_is_no_name_of_a_variable_is_refused(house, pod, name):
    assert "env" in await refusal(house, spoiled(pod(), "env name", name))


async def test_100_kb_arrive_byte_for_byte(house, pod):
    word = "$(id)`\n" * 15_000
    body = spoiled(spoiled(pod(), "env value", word), "args", word)
    _, launch = await launched(house, body)
    assert launch.env["EVIL"] == word
    assert launch.command[-1] == word


@pytest.mark.parametrize("folder", ["../etc", "relative", "--help", "$(id)"])
async def test_a_folder_that_is_not_absolute_is_refused(house, pod, folder):
    assert "workingDir" in await refusal(house, spoiled(pod(), "workingDir", folder))
