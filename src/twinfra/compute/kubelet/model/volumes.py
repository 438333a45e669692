"""What a pod's volumes hold, as ``/create`` carries it; pure.

ConfigMaps and Secrets go whole, by their names; projected and downward volumes as one map of files,
by the volume's name.

Source: interLink's ``PodCreateRequests``; Kubernetes documentation, "Projected Volumes".
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinfra.compute.kubelet.model.downward import Host, field_of, resource_of
from twinfra.compute.kubelet.model.objects import Found, NotYet, ObjectKind, values_of

Json = dict[str, Any]
ROOT_CA = "kube-root-ca.crt"
SHORTEST_TOKEN_S = 600
DEFAULT_TOKEN_S = 3600


@dataclass(frozen=True)
class TokenWanted:
    """A ServiceAccount's token that a volume holds."""

    audience: str = ""
    expires_s: int = DEFAULT_TOKEN_S


@dataclass(frozen=True)
class Carried:
    """The objects that go with a pod."""

    config_maps: tuple[Json, ...] = ()
    secrets: tuple[Json, ...] = ()
    projected_maps: tuple[Json, ...] = ()


def tokens_wanted(pod: Json) -> frozenset[TokenWanted]:
    """Return the tokens that a pod's projected volumes ask for."""
    return frozenset(
        _token(source["serviceAccountToken"])
        for volume in (pod.get("spec") or {}).get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if source.get("serviceAccountToken")
    )


def carry(
    pod: Json, found: Found, tokens: Mapping[TokenWanted, str], host: Host, *, root_ca: str = ""
) -> Carried:
    """Return the objects that go with a pod.

    Args:
        pod: whole.
        found: in its namespace.
        tokens: for each that `tokens_wanted` names.
        host: its node.
        root_ca: replaces the certificate of ``kube-root-ca.crt`` in projected volumes.

    Raises:
        NotYet: an object, or a key of it, is not there; the text names it.
    """
    maps: dict[str, Json] = {}
    secrets: dict[str, Json] = {}
    projected: list[Json] = []
    spec: Json = pod.get("spec") or {}
    for volume in spec.get("volumes") or ():
        if source := volume.get("configMap"):
            _take(maps, ObjectKind.CONFIG_MAP, source, source.get("name") or "", found)
        elif source := volume.get("secret"):
            _take(secrets, ObjectKind.SECRET, source, source.get("secretName") or "", found)
        elif source := volume.get("projected"):
            files: dict[str, bytes] = {}
            for part in source.get("sources") or ():
                files |= _part(pod, part, found, tokens, host, root_ca)
            projected.append(_map(volume["name"], files))
        elif source := volume.get("downwardAPI"):
            projected.append(_map(volume["name"], dict(_downward(pod, source, host))))
    for entry in spec.get("imagePullSecrets") or ():
        body = found.get(ObjectKind.SECRET, entry.get("name") or "")
        if body is not None:
            secrets[entry["name"]] = _slim(body)
    return Carried(tuple(maps.values()), tuple(secrets.values()), tuple(projected))


def _take(kept: dict[str, Json], kind: ObjectKind, source: Json, name: str, found: Found) -> None:
    body = found.get(kind, name)
    if body is None:
        if source.get("optional"):
            return
        raise NotYet(f'{kind.value} "{name}" not found', volume=True)
    values = {**(body.get("data") or {}), **(body.get("binaryData") or {})}
    _check_keys(source, kind, name, values)
    kept[name] = _slim(body)


def _check_keys(source: Json, kind: ObjectKind, name: str, values: Mapping[str, Any]) -> None:
    if source.get("optional"):
        return
    for item in source.get("items") or ():
        if item.get("key") not in values:
            text = f'references non-existent key "{item.get("key")}" of {kind.value} "{name}"'
            raise NotYet(text, volume=True)


def _part(
    pod: Json,
    part: Json,
    found: Found,
    tokens: Mapping[TokenWanted, str],
    host: Host,
    root_ca: str,
) -> dict[str, bytes]:
    if source := part.get("serviceAccountToken"):
        return {source.get("path") or "token": tokens[_token(source)].encode()}
    if source := part.get("downwardAPI"):
        return dict(_downward(pod, source, host))
    for key, kind in (("configMap", ObjectKind.CONFIG_MAP), ("secret", ObjectKind.SECRET)):
        if source := part.get(key):
            files = _chosen(source, kind, found)
            if root_ca and source.get("name") == ROOT_CA:
                return dict.fromkeys(files, root_ca.encode())
            return files
    kinds = ", ".join(sorted(part))
    raise NotYet(f"projected source {kinds} is not carried to sites", volume=True)


def _chosen(source: Json, kind: ObjectKind, found: Found) -> dict[str, bytes]:
    name = source.get("name") or ""
    body = found.get(kind, name)
    if body is None:
        if source.get("optional"):
            return {}
        raise NotYet(f'{kind.value} "{name}" not found', volume=True)
    values = values_of(kind, body)
    _check_keys(source, kind, name, values)
    items = source.get("items")
    if not items:
        return values
    return {item["path"]: values[item["key"]] for item in items if item["key"] in values}


def _downward(pod: Json, source: Json, host: Host) -> Iterator[tuple[str, bytes]]:
    for item in source.get("items") or ():
        if field := item.get("fieldRef"):
            yield item["path"], field_of(pod, field.get("fieldPath") or "", host).encode()
        elif resource := item.get("resourceFieldRef"):
            yield item["path"], resource_of(pod, resource, None, host).encode()


def _token(source: Json) -> TokenWanted:
    life_s = max(SHORTEST_TOKEN_S, int(source.get("expirationSeconds") or DEFAULT_TOKEN_S))
    return TokenWanted(source.get("audience") or "", life_s)


def _map(name: str, files: Mapping[str, bytes]) -> Json:
    """Return a map of files; what is no text goes in base64."""
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    for path, value in files.items():
        try:
            data[path] = value.decode()
        except UnicodeDecodeError:
            binary[path] = base64.b64encode(value).decode()
    body: Json = {"metadata": {"name": name}, "data": data}
    return {**body, "binaryData": binary} if binary else body


def _slim(body: Json) -> Json:
    """Return an object without what its owner's tools keep in its metadata."""
    metadata: Json = body.get("metadata") or {}
    slim = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
    kept = {key: value for key, value in body.items() if key in {"data", "binaryData", "type"}}
    return {"metadata": slim, **kept}
