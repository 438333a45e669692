"""Probes and hooks of a pod as the keeper runs them."""

from dataclasses import replace
from typing import Any

from twinfra.compute.containers.keeper.model import GrpcCheck, Hook, HttpGet, Probe
from twinfra.compute.interlink.model.reading import Json, as_object, objects, strings, text, whole
from twinfra.compute.interlink.pods.refused import refuse
from twinfra.core.errors import InvalidRequest


def read_probe(container: Json, kind: str, where: str) -> Probe | None:
    """Return the probe under `kind` (``readinessProbe`` and so on), or none.

    Raises:
        InvalidRequest: a field of it is wrong.
        SiteRejected: it is of a kind that the keeper does not run.
    """
    where = f"{where}.{kind}"
    body = as_object(container.get(kind) or {}, where)
    if not body:
        return None
    grace = body.get("terminationGracePeriodSeconds")
    if grace is not None and kind == "readinessProbe":
        raise InvalidRequest(f"{where}.terminationGracePeriodSeconds: it ends no container")
    pace = Probe(
        grace_s=None if grace is None else _number(grace, 0.0, where),
        initial_delay_s=_number(body.get("initialDelaySeconds"), 0.0, where),
        period_s=_number(body.get("periodSeconds"), 10.0, where) or 10.0,
        timeout_s=_number(body.get("timeoutSeconds"), 1.0, where) or 1.0,
        success_threshold=int(_number(body.get("successThreshold"), 1, where)) or 1,
        failure_threshold=int(_number(body.get("failureThreshold"), 3, where)) or 3,
    )
    ports = _named_ports(container, where)
    if body.get("httpGet") is not None:
        http = _http(as_object(body["httpGet"], f"{where}.httpGet"), ports, f"{where}.httpGet")
        return replace(pace, http=http)
    if body.get("tcpSocket") is not None:
        return replace(pace, tcp_port=_tcp(body, ports, where))
    if body.get("exec") is not None:
        return replace(pace, exec_command=_words(body, where))
    if body.get("grpc") is not None:
        grpc = as_object(body["grpc"], f"{where}.grpc")
        service = text(grpc.get("service"), f"{where}.grpc.service")
        port = _port(grpc.get("port"), {}, f"{where}.grpc.port")
        return replace(pace, grpc=GrpcCheck(port, service))
    raise InvalidRequest(f"{where} must name one of httpGet, tcpSocket, exec, grpc")


def read_hook(container: Json, kind: str, where: str) -> Hook | None:
    """Return the hook under `kind` (``postStart`` or ``preStop``), or none.

    Raises:
        InvalidRequest: a field of it is wrong.
        SiteRejected: it reaches out of the pod.
    """
    lifecycle = as_object(container.get("lifecycle") or {}, f"{where}.lifecycle")
    if lifecycle.get("stopSignal") not in (None, "", "SIGTERM"):
        raise refuse(f"{where}.lifecycle.stopSignal", "a container's end is asked for by SIGTERM")
    where = f"{where}.lifecycle.{kind}"
    body = as_object(lifecycle.get(kind) or {}, where)
    if not body:
        return None
    ports = _named_ports(container, where)
    if body.get("httpGet") is not None:
        place = f"{where}.httpGet"
        return Hook(http=_http(as_object(body["httpGet"], place), ports, place))
    if body.get("tcpSocket") is not None:
        return Hook(tcp_port=_tcp(body, ports, where))
    if body.get("exec") is not None:
        return Hook(exec_command=_words(body, where))
    if body.get("sleep") is not None:
        seconds = as_object(body["sleep"], f"{where}.sleep").get("seconds")
        return Hook(sleep_s=_number(seconds, 0.0, f"{where}.sleep.seconds"))
    raise InvalidRequest(f"{where} must name one of httpGet, tcpSocket, exec, sleep")


def _tcp(body: Json, ports: dict[str, int], where: str) -> int:
    socket = as_object(body["tcpSocket"], f"{where}.tcpSocket")
    if socket.get("host"):
        raise refuse(f"{where}.tcpSocket.host", "only the pod itself can be reached")
    return _port(socket.get("port"), ports, f"{where}.tcpSocket.port")


def _words(body: Json, where: str) -> tuple[str, ...]:
    command = as_object(body["exec"], f"{where}.exec").get("command")
    words = strings(command, f"{where}.exec.command")
    if not words:
        raise InvalidRequest(f"{where}.exec.command must not be empty")
    return words


def _http(body: Json, ports: dict[str, int], where: str) -> HttpGet:
    if body.get("host"):
        raise refuse(f"{where}.host", "only the pod itself can be reached")
    if (body.get("scheme") or "HTTP") != "HTTP":
        raise refuse(f"{where}.scheme", "plain HTTP is spoken within the pod")
    headers = tuple(
        (text(header.get("name"), f"{where}.name"), text(header.get("value"), f"{where}.value"))
        for header in objects(body.get("httpHeaders"), f"{where}.httpHeaders")
    )
    path = text(body.get("path"), f"{where}.path") or "/"
    return HttpGet(_port(body.get("port"), ports, f"{where}.port"), path, headers)


def _named_ports(container: Json, where: str) -> dict[str, int]:
    entries = objects(container.get("ports"), f"{where}.ports")
    return {
        text(entry.get("name"), "ports.name"): whole(
            entry.get("containerPort"), f"{where}.containerPort"
        )
        for entry in entries
        if entry.get("name")
    }


def _port(value: Any, ports: dict[str, int], where: str) -> int:
    port = ports.get(value, 0) if isinstance(value, str) else value
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidRequest(f"{where} must be a port from 1 to 65535 or the name of one")
    return port


def _number(value: Any, default: float, where: str) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidRequest(f"{where}: times and counts must be numbers, 0 or more")
    return float(value)
