"""Says what a plan must be for a keeper to take it. Pure; used on both sides."""

import re
from typing import Optional

from . import places
from .model import ALWAYS, NEVER, ON_FAILURE, SCHEMA, ContainerPlan, Hook, PodPlan, Probe

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?")


def plan_faults(plan: PodPlan) -> list[str]:
    """Return what is wrong with a plan, one sentence each; empty if it can be run."""
    faults: list[Optional[str]] = [
        None if plan.schema == SCHEMA else f"the plan has schema {plan.schema}, not {SCHEMA}",
        None if _UID.fullmatch(plan.uid) else f"not a uid: {plan.uid[:64]!r}",
        None if plan.attempt >= 1 else "attempts are numbered from 1",
        None if plan.containers else "a pod needs a container",
        None
        if plan.network in {"none", "private", "host"}
        else f"unknown network: {plan.network[:64]!r}",
        None
        if plan.uplink or plan.network != "private"
        else "a private network needs an uplink, and there is none here",
        None
        if plan.isolated or plan.network == "host"
        else "without isolation there is only the host's network",
        None
        if plan.restart_policy in {NEVER, ON_FAILURE, ALWAYS}
        else f"unknown restart policy: {plan.restart_policy[:64]!r}",
        None if re.fullmatch(r"[A-Za-z0-9.-]{0,64}", plan.hostname) else "not a host name",
    ]
    if places.wanted(plan) and not plan.isolated:
        faults.append("folders in memory and parts of folders need isolation")
    everyone = [*plan.init_containers, *plan.containers]
    names = [item.name for item in everyone]
    if len(set(names)) != len(names):
        faults.append("two containers have the same name")
    if any(item.sidecar for item in plan.containers):
        faults.append("only an init container can be a sidecar")
    for item in everyone:
        faults += _container_faults(item)
    return [fault for fault in faults if fault is not None]


def _container_faults(item: ContainerPlan) -> list[str]:
    if not _NAME.fullmatch(item.name):
        return [f"not a container name: {item.name[:64]!r}"]
    faults = []
    launch = item.launch
    texts = [*launch.prefix, *launch.command, *launch.hidden, launch.cwd]
    for pairs in (launch.env, launch.inner_env):
        texts += [*pairs, *pairs.values()]
    if any("\0" in text for text in texts):
        faults.append(f"container {item.name}: NUL characters cannot be passed to a process")
    if not launch.command or not launch.command[0]:
        faults.append(f"container {item.name}: no command")
    if launch.enter not in {"namespaces", "launch"}:
        faults.append(f"container {item.name}: unknown way to enter")
    probes = [probe for probe in (item.startup, item.readiness, item.liveness) if probe is not None]
    if not all(_is_probe(probe) for probe in probes):
        faults.append(f"container {item.name}: a probe needs one action and positive times")
    if not all(_is_hook(hook) for hook in (item.post_start, item.pre_stop) if hook is not None):
        faults.append(f"container {item.name}: a hook needs one action")
    return faults


def _is_probe(probe: Probe) -> bool:
    actions = [probe.http, probe.tcp_port, probe.exec_command, probe.grpc]
    port = probe.http.port if probe.http else probe.tcp_port
    port = probe.grpc.port if probe.grpc else port
    return (
        sum(action is not None for action in actions) == 1
        and probe.period_s > 0
        and probe.timeout_s > 0
        and min(probe.success_threshold, probe.failure_threshold) >= 1
        and (port is None or 0 < port < 65536)
        and probe.exec_command != ()
    )


def _is_hook(hook: Hook) -> bool:
    actions = [hook.http, hook.tcp_port, hook.exec_command, hook.sleep_s]
    port = hook.http.port if hook.http else hook.tcp_port
    return (
        sum(action is not None for action in actions) == 1
        and (port is None or 0 < port < 65536)
        and (hook.sleep_s is None or hook.sleep_s >= 0)
        and hook.exec_command != ()
    )
