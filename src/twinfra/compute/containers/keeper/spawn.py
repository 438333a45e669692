"""Starts processes: the sandbox commands, and commands that join a running container.

What it starts dies with the keeper, has its own session, and gets data as data: argv only, no
shell. It must not wait for anybody; the neighbour `pod.py` reaps.
"""

import contextlib
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

from . import kernel, places, procfs, terminal
from .cgroups import Group
from .model import ARGS_FD, Launch

_OOM_SCORE = "300"  # the machine's own trouble should take containers before keepers
_JOINED = ("ipc", "uts", "net", "pid", "cgroup", "mnt")


class Ends(NamedTuple):
    """A process's own ends of its streams; without an input it reads nothing."""

    stdout: int
    stderr: int
    stdin: int = -1
    terminal: bool = False
    """The three are one terminal, which is to control the process."""


class StartFailedError(Exception):
    """The process could not be started; the text says why."""


def start(launch: Launch, ends: Ends, group: Optional[Group], extra_env: dict[str, str]) -> int:
    """Start a container's process and return its pid.

    Args:
        launch: what to run.
        ends: its streams.
        group: control group that it joins before its first instruction.
        extra_env: added to the environment of the sandbox command.

    Raises:
        StartFailedError: the sandbox command cannot be executed.
    """
    _prepare(launch)
    hidden = _hidden(launch)
    argv = [word.replace(ARGS_FD, str(hidden)) for word in launch.prefix] + list(launch.command)
    environment = {**launch.env, **extra_env}

    def become() -> None:
        if hidden >= 0:
            os.set_inheritable(hidden, True)
        if group is not None:
            group.join()
        if not _set_uid(argv[0]):
            kernel.forbid_new_privileges()
        if ends.terminal and launch.enter == "launch":
            terminal.control()
        os.chdir("/")
        os.execvpe(argv[0], argv, environment)

    try:
        return _fork(become, ends)
    finally:
        if hidden >= 0:
            os.close(hidden)


def enter(
    launch: Launch,
    pid: int,
    command: tuple[str, ...],
    ends: Ends,
    group: Optional[Group],
) -> int:
    """Start a command within a running container and return the pid to wait for.

    Args:
        launch: how the container was started.
        pid: the process that `start` returned.
        command: argv.
        ends: its streams.
        group: the container's control group.

    Raises:
        StartFailedError: the container has ended or does not let us in.
    """
    if launch.enter == "launch":
        return _fork(lambda: _again(launch, command, ends, group), ends)
    inner = procfs.below(pid, launch.depth)
    if inner is None:
        raise StartFailedError("the container's process is not there")
    target, keeper = inner, os.getpid()

    def become() -> None:
        if group is not None:
            group.join()
        _join_namespaces(target)
        kernel.die_with_parent(keeper)
        kernel.forbid_new_privileges()

    return _fork(become, ends, within=lambda: _execute(command, launch, ends))


def _prepare(launch: Launch) -> None:
    try:
        for directory in launch.fresh:
            places.remove(directory)
        for directory in launch.directories:
            Path(directory).mkdir(parents=True, exist_ok=True)
        for path, content in launch.files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(content, encoding="utf-8")
        for path, goal in launch.links.items():
            if not os.path.islink(path):
                os.symlink(goal, path)
        for sub in launch.sub_paths:
            places.show(sub)
    except OSError as error:
        raise StartFailedError(f"cannot prepare the container's files: {error}") from error


def _hidden(launch: Launch) -> int:
    """Return a descriptor from which the hidden options can be read, or -1."""
    if not launch.hidden:
        return -1
    descriptor = os.memfd_create("options", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(
            b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in launch.hidden)
        )
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _set_uid(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_ISUID)
    except OSError:
        return False


def _fork(
    become: Callable[[], None],
    ends: Ends,
    within: Optional[Callable[[], None]] = None,
) -> int:
    """Fork a child that calls `become`; return once that has executed something or returned.

    With `within`, the child forks again, which is what enters a pid namespace that it has joined;
    the grandchild calls `within`, the child ends as the grandchild does.
    """
    keeper = os.getpid()
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reads)
            _settle(keeper, ends)
            if within is not None:
                _let_go(writes)
            become()
            os.close(writes)
            if within is not None:
                _fork_within(within)
        except BaseException as error:  # noqa: BLE001 - a forked child must never return
            with contextlib.suppress(OSError):
                os.write(writes, str(error).encode()[:4096])
        os._exit(127)
    os.close(writes)
    with open(reads, "rb") as report:
        trouble = report.read().decode(errors="replace")
    if trouble:
        os.waitpid(pid, 0)
        raise StartFailedError(trouble)
    return pid


def _settle(keeper: int, ends: Ends) -> None:
    """Make the forked child a fit parent for whatever it becomes."""
    os.setsid()
    kernel.die_with_parent(keeper)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores these; programs expect them
    os.dup2(os.open(os.devnull, os.O_RDONLY) if ends.stdin < 0 else ends.stdin, 0)
    os.dup2(ends.stdout, 1)
    os.dup2(ends.stderr, 2)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def _let_go(kept: int) -> None:
    """Close all but the standard streams and one.

    A process that executes nothing would keep the other end of every pipe of the keeper open.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _join_namespaces(target: int) -> None:
    """Join every namespace of a process in which it differs from this one.

    The mount namespace belongs to the outer of the sandbox's user namespaces and its process may
    live in an inner one, so the user namespaces are joined from the outside in.
    """
    differing = {
        name: os.open(f"/proc/{target}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        for name in (*_JOINED, "user")
        if os.readlink(f"/proc/{target}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    }
    users = _user_chain(differing.pop("user", -1))
    for user in users[:1]:
        kernel.setns(user, kernel.CLONE_NEWUSER)
    for name in _JOINED:
        if name in differing:
            kernel.setns(differing[name], 0)
    for user in users[1:]:
        kernel.setns(user, kernel.CLONE_NEWUSER)


def _user_chain(innermost: int) -> list[int]:
    """Return the user namespaces between ours (excluded) and the innermost, outermost first."""
    own = os.stat("/proc/self/ns/user").st_ino
    chain: list[int] = []
    while innermost >= 0 and os.fstat(innermost).st_ino != own:
        chain.insert(0, innermost)
        try:
            innermost = kernel.parent_namespace(innermost)
        except OSError:
            break
    return chain


def _fork_within(within: Callable[[], None]) -> None:
    middle = os.getpid()
    pid = os.fork()
    if pid == 0:
        kernel.die_with_parent(middle)
        within()
        os._exit(127)
    _, status = os.waitpid(pid, 0)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _again(launch: Launch, command: tuple[str, ...], ends: Ends, group: Optional[Group]) -> None:
    """Become the sandbox command once more, around another command."""
    if group is not None:
        group.join()
    argv = [*launch.prefix, *command]
    if not _set_uid(argv[0]):
        kernel.forbid_new_privileges()
    if ends.terminal:
        terminal.control()
    os.execvpe(argv[0], argv, _with_terminal(launch.env, ends))


def _execute(command: tuple[str, ...], launch: Launch, ends: Ends) -> None:
    """Become the command, within the container; a command that is not there says so."""
    if ends.terminal:
        os.setsid()
        terminal.control()
    try:
        os.chdir(launch.cwd)
        os.execvpe(command[0], list(command), _with_terminal(launch.inner_env, ends))
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode(errors="surrogateescape"))
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _with_terminal(env: dict[str, str], ends: Ends) -> dict[str, str]:
    return {"TERM": "xterm", **env} if ends.terminal else env
