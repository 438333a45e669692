"""Fields of a pod that a site cannot honour: they are refused by name, never dropped.

What only concerns a scheduler or an API server (affinity, tolerations, priority, service accounts)
has no meaning here and passes.
"""

from collections.abc import Callable
from typing import Any

from twinfra.compute.interlink.model.reading import Json, as_object, objects
from twinfra.core.errors import SiteRejected

Test = Callable[[Any], bool]


def _set(value: Any) -> bool:
    return bool(value)


def _but(*fine: Any) -> Test:
    return lambda value: value not in (None, "", *fine)


SPEC: dict[str, Test] = {
    "hostNetwork": _set,
    "hostPID": _set,
    "hostIPC": _set,
    "ephemeralContainers": _set,
    "readinessGates": _set,
    "runtimeClassName": _set,
    "setHostnameAsFQDN": _set,
    "resourceClaims": _set,
    "dnsConfig": _set,
}
POD_SECURITY: dict[str, Test] = {
    "sysctls": _set,
    "seLinuxOptions": _set,
    "windowsOptions": _set,
}
CONTAINER: dict[str, Test] = {
    "volumeDevices": _set,
}
SECURITY: dict[str, Test] = {
    "privileged": _set,
    "allowPrivilegeEscalation": _set,
    "procMount": _but("Default"),
    "seLinuxOptions": _set,
    "windowsOptions": _set,
}
VOLUME_KINDS = frozenset(
    {
        "name",
        "emptyDir",
        "configMap",
        "secret",
        "projected",
        "downwardAPI",
        "hostPath",
        "persistentVolumeClaim",
    }
)


def refuse(field: str, why: str) -> SiteRejected:
    """Return the error that names `field`."""
    return SiteRejected(f"{field}: {why}", errors=[{"field": field, "detail": why}])


def check_spec(spec: Json) -> None:
    """Refuse what of a pod's spec cannot be honoured here.

    Raises:
        SiteRejected: names the field.
    """
    _check(spec, SPEC, "spec")
    security = _part(spec, "securityContext", "spec")
    _check(security, POD_SECURITY, "spec.securityContext")
    _check_profile(security, "spec.securityContext")
    name = _part(spec, "os", "spec").get("name", "linux")
    if name != "linux":
        raise refuse("spec.os.name", f"this site runs linux, not {name}")


def check_container(container: Json, where: str) -> None:
    """Refuse what of a container cannot be honoured here.

    Raises:
        SiteRejected: names the field.
    """
    _check(container, CONTAINER, where)
    security = _part(container, "securityContext", where)
    _check(security, SECURITY, f"{where}.securityContext")
    _check_profile(security, f"{where}.securityContext")
    if _part(security, "capabilities", f"{where}.securityContext").get("add"):
        raise refuse(f"{where}.securityContext.capabilities.add", "none can be added here")
    for index, port in enumerate(objects(container.get("ports"), f"{where}.ports")):
        if port.get("hostPort"):
            raise refuse(f"{where}.ports[{index}].hostPort", "ports of the host are not given out")


def check_volume(volume: Json, where: str) -> None:
    """Refuse a volume of a kind that this site does not have.

    Raises:
        SiteRejected: names the kind.
    """
    for kind in sorted(set(volume) - VOLUME_KINDS):
        if volume[kind] is not None:
            raise refuse(f"{where}.{kind}", "this site has no such volumes")


def _check(body: Json, tests: dict[str, Test], where: str) -> None:
    for name, test in tests.items():
        if test(body.get(name)):
            raise refuse(f"{where}.{name}", "cannot be honoured at this site")


def _check_profile(security: Json, where: str) -> None:
    for profile in ("seccompProfile", "appArmorProfile"):
        kind = _part(security, profile, where).get("type", "RuntimeDefault")
        if kind not in ("RuntimeDefault", "Unconfined"):
            raise refuse(f"{where}.{profile}", "profiles of one's own are not offered here")


def _part(body: Json, name: str, where: str) -> Json:
    return as_object(body.get(name) or {}, f"{where}.{name}")
