"""A JupyterHub as its own documentation sets one up, outside of the cluster, and a person in it.

Source: JupyterHub, "REST API" and "Authenticating with a token"; KubeSpawner, "Setup"; zero to
JupyterHub's chart for what its account may do.
"""

import asyncio
import json
import sys
import urllib.request
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from twinfra.core.ids import new_uuid
from twinfra.testkit.ports import LOOPBACK, free_port, listening
from twinfra.testkit.processes import running

WITHIN_S = 180.0
PASSWORD = "for-a-test"
RULES = [
    {
        "apiGroups": [""],
        "resources": ["pods", "persistentvolumeclaims", "secrets", "services"],
        "verbs": ["get", "watch", "list", "create", "delete"],
    },
    {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "watch", "list"]},
]


def account(cluster, namespace):
    """Make the hub's service account with its rights; gives its kubeconfig."""
    rbac = "rbac.authorization.k8s.io"
    named = {"metadata": {"name": "hub"}}
    role = {"apiGroup": rbac, "kind": "Role", "name": "hub"}
    subject = {"kind": "ServiceAccount", "name": "hub", "namespace": namespace}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", **named},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "rules": RULES, **named},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "roleRef": role,
         "subjects": [subject], **named},
        namespace=namespace,
    )  # fmt: skip
    return cluster.token_kubeconfig(f"hub-{namespace}", cluster.token(namespace, "hub"))


@contextmanager
def jupyterhub(folder, *, programs, modules, kubeconfig, namespace, image):
    """Run the hub and its proxy until the block ends; gives the proxy's address.

    Args:
        folder: an empty one.
        programs: ``bin`` of the environment with JupyterHub and KubeSpawner.
        modules: folder whose ``node_modules`` holds the proxy.
        kubeconfig: of the hub's account.
        namespace: for the pods.
        image: of the servers.
    """
    ports = {name: free_port() for name in ("public", "proxy", "hub", "server")}
    url = f"http://{LOOPBACK}:{ports['public']}"
    options = {
        "JupyterHub.bind_url": url,
        "JupyterHub.hub_bind_url": f"http://{LOOPBACK}:{ports['hub']}",
        "JupyterHub.spawner_class": "kubespawner.KubeSpawner",
        "JupyterHub.authenticator_class": "dummy",
        "DummyAuthenticator.password": PASSWORD,
        "Authenticator.allowed_users": {"alice"},
        "ConfigurableHTTPProxy.should_start": False,
        "ConfigurableHTTPProxy.api_url": f"http://{LOOPBACK}:{ports['proxy']}",
        "KubeSpawner.namespace": namespace,
        "KubeSpawner.image": image,
        "KubeSpawner.cmd": ["jupyterhub-singleuser"],
        # pods of the site share this machine's network
        "KubeSpawner.ip": LOOPBACK,
        "KubeSpawner.port": ports["server"],
        "KubeSpawner.start_timeout": int(WITHIN_S),
        "KubeSpawner.http_timeout": int(WITHIN_S),
    }
    config = folder / "jupyterhub_config.py"
    config.write_text("".join(f"c.{name} = {value!r}\n" for name, value in options.items()))
    environment = {"CONFIGPROXY_AUTH_TOKEN": new_uuid(), "KUBECONFIG": str(kubeconfig)}
    proxy = _proxy(modules, ports)
    with running(
        proxy, log=folder / "proxy.log", ready=lambda: listening(ports["proxy"]),
        environment=environment, timeout_s=WITHIN_S,
    ), running(
        [programs / "jupyterhub", "-f", config], log=folder / "hub.log",
        ready=lambda: _healthy(url), environment=environment, timeout_s=WITHIN_S,
    ):  # fmt: skip
        yield url


def _proxy(modules, ports):
    """Return the command of the hub's proxy, which Debian 12's own node is too old for."""
    return [
        Path(sys.executable).with_name("node"),
        modules / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy",
        f"--ip={LOOPBACK}", f"--port={ports['public']}",
        f"--api-ip={LOOPBACK}", f"--api-port={ports['proxy']}",
        f"--default-target=http://{LOOPBACK}:{ports['hub']}",
        f"--error-target=http://{LOOPBACK}:{ports['hub']}/hub/error",
    ]  # fmt: skip


def _healthy(url):
    try:
        with urllib.request.urlopen(f"{url}/hub/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@dataclass
class Person:
    """Somebody who has logged in; their requests carry a token that they made for themselves."""

    hub: str
    name: str
    session: aiohttp.ClientSession

    @property
    def server(self):
        return f"{self.hub}/user/{self.name}"

    @property
    def _api(self):
        return f"{self.hub}/hub/api/users/{self.name}"

    async def servers(self):
        """Return what the hub says of their servers, by name; the default one's is empty."""
        async with self.session.get(self._api) as answer:
            return (await answer.json())["servers"]

    async def start(self):
        """Start the server; it is ready on return.

        Raises:
            AssertionError: it is not; holds all that the hub told meanwhile.
        """
        async with self.session.post(f"{self._api}/server") as answer:
            assert answer.status in {201, 202}, await answer.text()
        async with (
            asyncio.timeout(WITHIN_S),
            self.session.get(f"{self._api}/server/progress") as stream,
        ):
            lines = [line async for line in stream.content]
        told = [json.loads(line[5:]) for line in lines if line.startswith(b"data:")]
        assert told, lines
        assert told[-1].get("ready"), told

    async def stop(self):
        """Stop the server; the hub may not be done on return."""
        async with self.session.delete(f"{self._api}/server") as answer:
            assert answer.status in {202, 204}, await answer.text()


@asynccontextmanager
async def logged_in(hub, name):
    """Log `name` in on the hub's page, as a browser does; gives them with a token of their own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        page = f"{hub}/hub/login"
        async with browser.get(page) as answer:
            assert answer.status == 200
        form = {"username": name, "password": PASSWORD, "_xsrf": _xsrf(browser, page)}
        async with browser.post(page, params={"next": "/hub/home"}, data=form) as answer:
            assert answer.url.path == "/hub/home", await answer.text()
        api = f"{hub}/hub/api/users/{name}"
        headers = {"X-XSRFToken": _xsrf(browser, page), "Referer": f"{hub}/hub/token"}
        wanted = {"note": "for a test", "expires_in": 3600}
        async with browser.post(f"{api}/tokens", json=wanted, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            token = (await answer.json())["token"]
    async with aiohttp.ClientSession(headers={"Authorization": f"token {token}"}) as session:
        yield Person(hub, name, session)


def _xsrf(browser, page):
    return browser.cookie_jar.filter_cookies(URL(page))["_xsrf"].value
