"""Environment, command and arguments of a container; ``$(NAME)`` is replaced as in Kubernetes."""

import re
from collections.abc import Mapping, Sequence

from twinfra.compute.interlink.model.create import RetrievedContainer, object_name
from twinfra.compute.interlink.model.pod import PodRef
from twinfra.compute.interlink.model.reading import Json, as_object, objects, strings, text
from twinfra.compute.interlink.pods.refused import refuse
from twinfra.compute.interlink.pods.volumes import content_of
from twinfra.core.errors import InvalidRequest

_REFERENCE = re.compile(r"\$\$|\$\(([^()$\s]+)\)")


def read_env(container: Json, ref: PodRef, where: str, given: RetrievedContainer) -> dict[str, str]:
    """Return the variables of a container, values as bytes-exact text, references replaced.

    A later variable may refer to those before it. Whole objects (``envFrom``) come first; most
    kubelets have resolved them already.

    Raises:
        InvalidRequest: an entry has no name, or one that no process can have.
        SiteRejected: a value comes from a source that cannot be read here.
    """
    env = _from_objects(container, where, given)
    for index, entry in enumerate(objects(container.get("env"), f"{where}.env")):
        field = f"{where}.env[{index}]"
        name = text(entry.get("name"), f"{field}.name")
        if not name or "=" in name or "\0" in name:
            raise InvalidRequest(f"{field}.name is no name of a variable")
        if entry.get("valueFrom"):
            source = as_object(entry["valueFrom"], f"{field}.valueFrom")
            value = _from_source(source, ref, f"{field}.valueFrom", given)
            if value is not None:
                env[name] = value
        else:
            env[name] = expand(text(entry.get("value"), f"{field}.value"), env)
    return env


def words(container: Json, key: str, env: Mapping[str, str], where: str) -> tuple[str, ...] | None:
    """Return ``command`` or ``args`` with references replaced, or none where it is not given.

    Raises:
        InvalidRequest: it is no list of strings.
    """
    given = strings(container.get(key), f"{where}.{key}")
    return tuple(expand(word, env) for word in given) or None


def expand(value: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by the variable's value; an unknown one stays, ``$$`` gives ``$``.

    Source: Kubernetes, "Define Dependent Environment Variables".
    """

    def put(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return _REFERENCE.sub(put, value)


def _from_objects(container: Json, where: str, given: RetrievedContainer) -> dict[str, str]:
    env: dict[str, str] = {}
    for index, entry in enumerate(objects(container.get("envFrom"), f"{where}.envFrom")):
        field = f"{where}.envFrom[{index}]"
        prefix = text(entry.get("prefix"), f"{field}.prefix")
        for kind, encoded in (("configMapRef", False), ("secretRef", True)):
            if entry.get(kind) is None:
                continue
            source = as_object(entry[kind], f"{field}.{kind}")
            content = _object(source, f"{field}.{kind}", given, encoded=encoded) or {}
            env |= {prefix + key: _decoded(value, field) for key, value in content.items()}
    for name in env:
        if not name or "=" in name or "\0" in name:
            raise InvalidRequest(f"{where}.envFrom: {name[:64]!r} is no name of a variable")
    return env


def _object(
    source: Json, where: str, given: RetrievedContainer, *, encoded: bool
) -> dict[str, bytes] | None:
    """Return what an object that came with the pod holds; none where it is optional and absent."""
    wanted = text(source.get("name"), f"{where}.name")
    entries = given.secrets if encoded else given.config_maps
    found = next((entry for entry in entries if object_name(entry) == wanted), None)
    if found is None and not source.get("optional"):
        raise InvalidRequest(f"{where}: {wanted} did not come with the pod")
    return None if found is None else content_of(found, where, encoded=encoded)


def _decoded(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{where}: a variable must be text") from error


def _from_source(source: Json, ref: PodRef, where: str, given: RetrievedContainer) -> str | None:
    for kind, encoded in (("configMapKeyRef", False), ("secretKeyRef", True)):
        if source.get(kind) is not None:
            place = f"{where}.{kind}"
            chosen = as_object(source[kind], place)
            content = _object(chosen, place, given, encoded=encoded)
            key = text(chosen.get("key"), f"{place}.key")
            if content is None or (key not in content and chosen.get("optional")):
                return None
            if key not in content:
                raise InvalidRequest(f"{place}: there is no key {key[:64]!r}")
            return _decoded(content[key], place)
    return _from_field(source, ref, where)


def _from_field(source: Json, ref: PodRef, where: str) -> str:
    kinds: Sequence[str] = [kind for kind in source if source[kind] is not None]
    if list(kinds) != ["fieldRef"]:
        raise refuse(
            f"{where}.{kinds[0] if kinds else '?'}", "must be resolved before it comes here"
        )
    path = text(as_object(source["fieldRef"], where).get("fieldPath"), f"{where}.fieldRef")
    known = {
        "metadata.name": ref.name,
        "metadata.namespace": ref.namespace,
        "metadata.uid": ref.uid,
        **{f"metadata.annotations['{key}']": value for key, value in ref.annotations.items()},
    }
    if path not in known:
        raise refuse(f"{where}.fieldRef.fieldPath", f"{path} must be resolved before it comes here")
    return known[path]
