"""Volumes of a pod: which files they hold, read from what came with the pod; pure."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from twinfra.compute.interlink.model.create import RetrievedContainer, object_name
from twinfra.compute.interlink.model.pod import containers_of, pod_ref, spec_of
from twinfra.compute.interlink.model.reading import Json, as_object, objects, text
from twinfra.compute.interlink.pods.refused import check_volume, refuse
from twinfra.compute.interlink.pods.request import Claim, FileEntry, HostPath, Volume
from twinfra.compute.interlink.pods.rules import Rules
from twinfra.core.errors import InvalidRequest
from twinfra.core.quantities import parse_bytes

DEFAULT_MODE = 0o644
HOST_KINDS = ("", "Directory", "DirectoryOrCreate", "File", "FileOrCreate")
OF_OBJECTS = frozenset({"configMap", "secret", "projected", "downwardAPI"})
CLAIM = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


def read_volumes(
    pod: Json, containers: Sequence[RetrievedContainer], rules: Rules
) -> tuple[Volume, ...]:
    """Return the volumes of a pod with their files.

    Objects of a volume that no container mounts need not have come along: nobody misses them.

    Raises:
        InvalidRequest: a volume is malformed, or its object did not come with the pod.
        SiteRejected: it is of a kind, or has an option, that this site does not have.
    """
    found = []
    names: set[str] = set()
    mounted = set(_mounted(pod))
    for index, volume in enumerate(objects(spec_of(pod).get("volumes"), "spec.volumes")):
        where = f"spec.volumes[{index}]"
        name = text(volume.get("name"), f"{where}.name")
        if not name or "/" in name or name in {".", ".."} or name in names:
            raise InvalidRequest(f"{where}.name must be a name of its own")
        names.add(name)
        check_volume(volume, where)
        needed = volume if name in mounted else _unneeded(volume)
        found.append(
            _of_site(needed, name, where, pod, rules)
            or _volume(needed, name, where, containers, rules)
        )
    return tuple(found)


def _mounted(pod: Json) -> Iterable[str]:
    """Yield the names of the volumes that containers mount."""
    for containers in containers_of(pod):
        for container in containers:
            for mount in objects(container.get("volumeMounts"), "volumeMounts"):
                yield str(mount.get("name"))


def _unneeded(volume: Json) -> Json:
    """Return a volume whose objects may be missing."""
    return {
        kind: {**body, "optional": True} if kind in OF_OBJECTS and isinstance(body, dict) else body
        for kind, body in volume.items()
    }


def safe_path(path: str, where: str) -> str:
    """Return a relative path that stays below its root.

    Raises:
        InvalidRequest: it is absolute, empty, or climbs.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise InvalidRequest(f"{where}: {path!r} must stay within the volume")
    return str(pure)


def _of_site(volume: Json, name: str, where: str, pod: Json, rules: Rules) -> Volume | None:
    """Return a volume that is the site's own, or none."""
    if volume.get("hostPath") is not None:
        source = as_object(volume["hostPath"], f"{where}.hostPath")
        path = PurePosixPath(text(source.get("path"), f"{where}.hostPath.path"))
        kind = text(source.get("type"), f"{where}.hostPath.type")
        if kind not in HOST_KINDS:
            raise refuse(f"{where}.hostPath.type", f"{kind[:32]} is not given out")
        root, writable = rules.allowed(path, f"{where}.hostPath.path")
        return Volume(name, host=HostPath(root, str(path), kind, writable))
    if volume.get("persistentVolumeClaim") is None:
        return None
    where = f"{where}.persistentVolumeClaim"
    source = as_object(volume["persistentVolumeClaim"], where)
    claim = text(source.get("claimName"), f"{where}.claimName")
    if not CLAIM.fullmatch(claim):
        raise InvalidRequest(f"{where}.claimName must be a claim's name")
    found = rules.claim_class(storage_class(pod, claim), where)
    writable = not (found.read_only or source.get("readOnly"))
    if found.scope:
        return Volume(name, claim=Claim(f"{found.scope}:{claim}", "", writable=False))
    return Volume(name, claim=Claim(claim, found.root, writable))


def storage_class(pod: Json, claim: str) -> str:
    """Return the storage class of a claim, as the kubelet that handed the pod over says.

    Raises:
        InvalidRequest: the annotation ``twinfra.io/claims`` is not what it should be.
    """
    spelled = pod_ref(pod).hint("claims")
    if not spelled:
        return ""
    try:
        known = as_object(json.loads(spelled), "claims")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("twinfra.io/claims is no JSON object") from error
    entry = as_object(known.get(claim) or {}, f"twinfra.io/claims.{claim}")
    return text(entry.get("storageClassName"), f"twinfra.io/claims.{claim}.storageClassName")


def _volume(
    volume: Json, name: str, where: str, containers: Sequence[RetrievedContainer], rules: Rules
) -> Volume:
    if volume.get("emptyDir") is not None or set(volume) <= {"name"}:
        source = as_object(volume.get("emptyDir") or {}, f"{where}.emptyDir")
        return _empty(source, name, where, rules)
    if volume.get("configMap") is not None:
        source = as_object(volume["configMap"], f"{where}.configMap")
        wanted = text(source.get("name"), f"{where}.configMap.name")
        given = _given((entry.config_maps for entry in containers), wanted)
        return Volume(name, _files(source, given, f"{where}.configMap", wanted))
    if volume.get("secret") is not None:
        source = as_object(volume["secret"], f"{where}.secret")
        wanted = text(source.get("secretName"), f"{where}.secret.secretName")
        given = _given((entry.secrets for entry in containers), wanted)
        return Volume(name, _files(source, given, f"{where}.secret", wanted, encoded=True))
    source = as_object(volume.get("projected") or volume.get("downwardAPI") or {}, where)
    given = _given((entry.projected_maps for entry in containers), name)
    modes = _item_modes(volume, where)
    files = _files({**source, "items": None}, given, where, name)
    return Volume(name, tuple(replace(f, mode=modes.get(f.path, f.mode)) for f in files))


def _item_modes(volume: Json, where: str) -> dict[str, int]:
    """Return the modes of single files by path: the map of files that came along has none."""
    projected = as_object(volume.get("projected") or {}, f"{where}.projected")
    sources = objects(projected.get("sources"), f"{where}.projected.sources")
    found = {}
    for source in (*sources, {"downwardAPI": volume.get("downwardAPI")}):
        for kind in ("secret", "configMap", "downwardAPI"):
            body = as_object(source.get(kind) or {}, f"{where}.{kind}")
            for index, item in enumerate(objects(body.get("items"), f"{where}.{kind}.items")):
                at = f"{where}.{kind}.items[{index}]"
                if item.get("mode") is not None:
                    path = safe_path(text(item.get("path"), f"{at}.path"), f"{at}.path")
                    found[path] = _mode(item["mode"], DEFAULT_MODE, f"{at}.mode")
    return found


def _empty(source: Json, name: str, where: str, rules: Rules) -> Volume:
    medium = text(source.get("medium"), f"{where}.emptyDir.medium")
    if medium not in {"", "Memory"}:
        raise refuse(f"{where}.emptyDir.medium", "is the default or Memory here")
    if medium and not rules.isolated:
        raise refuse(f"{where}.emptyDir.medium", "containers have no namespaces here")
    limit = source.get("sizeLimit")
    if limit is None:
        return Volume(name, scratch=True, memory=bool(medium))
    try:
        limit_bytes = int(parse_bytes(limit))
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"{where}.emptyDir.sizeLimit is no quantity") from error
    return Volume(name, scratch=True, memory=bool(medium), limit_bytes=limit_bytes)


def _given(groups: Iterable[Sequence[Json]], wanted: str) -> Json | None:
    return next(
        (entry for group in groups for entry in group if object_name(entry) == wanted), None
    )


def _files(
    source: Json, given: Json | None, where: str, wanted: str, *, encoded: bool = False
) -> tuple[FileEntry, ...]:
    """Return the files of one source: all its keys, or those that ``items`` choose."""
    if given is None:
        if source.get("optional"):
            return ()
        raise InvalidRequest(f"{where}: {wanted} did not come with the pod")
    content = content_of(given, where, encoded=encoded)
    mode = _mode(source.get("defaultMode"), DEFAULT_MODE, where)
    items = objects(source.get("items"), f"{where}.items")
    if not items:
        return tuple(
            FileEntry(safe_path(key, where), value, mode) for key, value in content.items()
        )
    found = []
    for index, item in enumerate(items):
        key = text(item.get("key"), f"{where}.items[{index}].key")
        if key not in content:
            if source.get("optional"):
                continue
            raise InvalidRequest(f"{where}.items[{index}].key: {wanted} has no {key!r}")
        path = safe_path(text(item.get("path"), f"{where}.items[{index}].path"), where)
        found.append(FileEntry(path, content[key], _mode(item.get("mode"), mode, where)))
    return tuple(found)


def content_of(given: Json, where: str, *, encoded: bool) -> dict[str, bytes]:
    """Return what a ConfigMap, or (encoded) a Secret, holds by key."""
    data = as_object(given.get("data") or {}, f"{where}.data")
    binary = as_object(given.get("binaryData") or {}, f"{where}.binaryData")
    plain = as_object(given.get("stringData") or {}, f"{where}.stringData") if encoded else {}
    found = {
        key: _decode(value, where) if encoded else text(value, where).encode()
        for key, value in data.items()
    }
    found |= {key: _decode(value, where) for key, value in binary.items()}
    return found | {key: text(value, where).encode() for key, value in plain.items()}


def _decode(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text(value, where), validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"{where}: a value is not base64") from error


def _mode(value: Any, default: int, where: str) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
        raise InvalidRequest(f"{where}: a mode is a number from 0 to 0777 (511)")
    return value
