"""`twinfra kubelet install` as an operator types it, and what a cluster has before and after."""

import subprocess
import sys

import pytest

from twinfra.testkit.waiting import wait_for_sync

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(600)]
WITHIN_S = 120.0
POLICIES = "mutatingadmissionpolicies,validatingadmissionpolicies"
BINDINGS = "mutatingadmissionpolicybindings,validatingadmissionpolicybindings"
WEBHOOKS = "mutatingwebhookconfigurations,validatingwebhookconfigurations"


@pytest.fixture
def typed(control_plane, context):
    """Run the command with further words, and return how it ended."""
    control_plane.wait_ready()
    where = ("--kubeconfig", str(control_plane.kubeconfig), "--home", str(context.home.root))

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "twinfra.cli.main", "kubelet", "install", *where, *words],
            capture_output=True, text=True, timeout=WITHIN_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


def deeds(done):
    """Return what was said of each object, by its kind and name."""
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    return {(kind, name): deed for deed, kind, name in lines}


@pytest.mark.story(
    "`twinfra kubelet install` as typed: no webhook; --dry-run tells, --uninstall takes"
)
def test_the_command_writes_policies_and_takes_them_back(typed, control_plane):
    def there(kinds):
        names = control_plane.kubectl("get", kinds, "-o", "name").stdout.split()
        return {name for name in names if "/twinfra-" in name}

    deeds(typed("--uninstall"))
    assert there(f"{POLICIES},{BINDINGS},clusterroles,clusterrolebindings") == set()
    # What other tests stamped goes with their namespaces; until then an install refuses.
    wait_for_sync(
        lambda: typed("--dry-run").returncode == 0, timeout_s=WITHIN_S, what="a clean cluster"
    )
    told = deeds(typed("--dry-run"))
    assert "created" in told.values()
    assert there(POLICIES) == set()
    done = deeds(typed())
    assert done == told
    made = there(POLICIES)
    assert {kind.partition(".")[0] for kind in made} == {
        "mutatingadmissionpolicy",
        "validatingadmissionpolicy",
    }
    assert len(there(BINDINGS)) == len(made)
    assert set(deeds(typed()).values()) == {"unchanged"}
    assert control_plane.kubectl("get", WEBHOOKS, "-o", "name").stdout == ""
    taken = deeds(typed("--uninstall", "--dry-run"))
    assert there(POLICIES) == made
    assert deeds(typed("--uninstall")) == taken
    assert there(f"{POLICIES},{BINDINGS}") == set()
    kept = {kind for (kind, _), deed in taken.items() if deed == "kept"}
    assert kept == {"Namespace", "ServiceAccount"}
    control_plane.kubectl("get", "serviceaccount", "twinfra-kubelet", "-n", "twinfra-system")
    assert set(deeds(typed()).values()) == {"created", "unchanged"}
