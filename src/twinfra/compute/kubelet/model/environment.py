"""Variables of containers with all their sources resolved to plain values; pure.

A site gets text only. A value that came from elsewhere is not expanded there: where it holds what
reads like a reference, its dollars are doubled, as Kubernetes' own rule undoes them.

Source: Kubernetes documentation, "Define Environment Variables for a Container", "Service".
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from twinfra.compute.kubelet.model.downward import Host, field_of, resource_of
from twinfra.compute.kubelet.model.objects import Found, NotYet, ObjectKind, Service, values_of
from twinfra.core.errors import InvalidRequest

Json = dict[str, Any]
_NAME = re.compile(r"[^\x00-\x1f=\x7f]+")
_REFS = (
    ("configMapKeyRef", ObjectKind.CONFIG_MAP),
    ("secretKeyRef", ObjectKind.SECRET),
)
_ALL = (("configMapRef", ObjectKind.CONFIG_MAP), ("secretRef", ObjectKind.SECRET))


def resolve(pod: Json, found: Found, host: Host) -> Json:
    """Return the pod with plain variables only: no ``valueFrom``, no ``envFrom``.

    Raises:
        NotYet: an object, or a key of it, is not there; the text names it.
        InvalidRequest: a source cannot be read.
    """
    spec: Json = dict(pod.get("spec") or {})
    linked = service_variables(found.services) if spec.get("enableServiceLinks", True) else {}
    for group in ("initContainers", "containers"):
        if spec.get(group):
            spec[group] = [
                _resolved(pod, container, linked, found, host) for container in spec[group]
            ]
    return {**pod, "spec": spec}


def service_variables(services: Sequence[Service]) -> dict[str, str]:
    """Return the variables that tell the addresses of services."""
    found: dict[str, str] = {}
    for service in services:
        name = service.name.upper().replace("-", "_")
        first = service.ports[0] if service.ports else None
        if first is None or service.address in {"", "None"}:
            continue
        found[f"{name}_SERVICE_HOST"] = service.address
        found[f"{name}_SERVICE_PORT"] = str(first[1])
        for label, number, _ in service.ports:
            if label:
                key = label.upper().replace("-", "_")
                found[f"{name}_SERVICE_PORT_{key}"] = str(number)
        found[f"{name}_PORT"] = _url(service.address, first)
        for port in service.ports:
            prefix = f"{name}_PORT_{port[1]}_{port[2].upper()}"
            found[prefix] = _url(service.address, port)
            found[f"{prefix}_PROTO"] = port[2].lower()
            found[f"{prefix}_PORT"] = str(port[1])
            found[f"{prefix}_ADDR"] = service.address
    return found


def literal(value: str) -> str:
    """Return a value that stays itself where ``$(NAME)`` is replaced and ``$$`` halved."""
    return value.replace("$", "$$") if "$(" in value or "$$" in value else value


def _url(address: str, port: tuple[str, int, str]) -> str:
    return f"{port[2].lower()}://{address}:{port[1]}"


def _resolved(pod: Json, container: Json, linked: dict[str, str], found: Found, host: Host) -> Json:
    env = {name: {"name": name, "value": literal(value)} for name, value in linked.items()}
    for name, value in _from_objects(container, found):
        env[name] = {"name": name, "value": literal(value)}
    own = []
    for entry in container.get("env") or ():
        name = entry.get("name") or ""
        env.pop(name, None)
        if entry.get("valueFrom"):
            given = _value(pod, container, entry["valueFrom"], found, host)
            if given is not None:
                own.append({"name": name, "value": literal(given)})
        else:
            own.append(entry)
    kept = {key: value for key, value in container.items() if key not in {"env", "envFrom"}}
    together = [*env.values(), *own]
    return {**kept, "env": together} if together else kept


def _from_objects(container: Json, found: Found) -> Iterator[tuple[str, str]]:
    """Yield the variables that whole objects give; keys that are no names give none."""
    for entry in container.get("envFrom") or ():
        for key, kind in _ALL:
            source = entry.get(key)
            if source is None:
                continue
            body = found.get(kind, source.get("name") or "")
            if body is None:
                if source.get("optional"):
                    continue
                raise NotYet(f'{kind.value} "{source.get("name")}" not found', volume=False)
            for name, value in values_of(kind, body).items():
                full = f"{entry.get('prefix') or ''}{name}"
                if _NAME.fullmatch(full):
                    yield full, _text(value, f"{kind.value} {source.get('name')}.{name}")


def _value(pod: Json, container: Json, source: Json, found: Found, host: Host) -> str | None:
    """Return the value of one source; none where it is optional and absent."""
    if field := source.get("fieldRef"):
        return field_of(pod, field.get("fieldPath") or "", host)
    if resource := source.get("resourceFieldRef"):
        return resource_of(pod, resource, container, host)
    for key, kind in _REFS:
        if ref := source.get(key):
            return _keyed(ref, kind, found)
    raise InvalidRequest(f"valueFrom has a source that is not known here: {sorted(source)}")


def _keyed(ref: Json, kind: ObjectKind, found: Found) -> str | None:
    name, key = ref.get("name") or "", ref.get("key") or ""
    body = found.get(kind, name)
    values = {} if body is None else values_of(kind, body)
    if key in values:
        return _text(values[key], f"{kind.value} {name}.{key}")
    if ref.get("optional"):
        return None
    if body is None:
        raise NotYet(f'{kind.value} "{name}" not found', volume=False)
    raise NotYet(f'couldn\'t find key "{key}" in {kind.value} "{name}"', volume=False)


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{where} is no text and cannot be a variable") from error
