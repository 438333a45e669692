"""The few Linux calls that Python 3.9 does not wrap: namespaces, prctl and the loopback device.

It must not know of pods. Its neighbour `spawn.py` uses it in freshly forked children.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_NS_GET_PARENT = 0xB702

_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies; ends at once if it already has.

    A change of credentials (joining a user namespace) undoes it: call it after.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PDEATHSIG)")
    if os.getppid() not in {parent, 0}:  # 0: the parent is outside of our pid namespace
        os._exit(1)


def become_subreaper() -> None:
    """Inherit the orphans among this process's descendants."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(CHILD_SUBREAPER)")


def forbid_new_privileges() -> None:
    """Make set-uid bits and file capabilities powerless from here on."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(NO_NEW_PRIVS)")


def unshare(flags: int) -> None:
    """Move this process into new namespaces.

    Raises:
        OSError: the kernel or a policy denies it.
    """
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """Join the namespace that the descriptor names."""
    _check(_libc.setns(descriptor, flags), "setns")


def parent_namespace(descriptor: int) -> int:
    """Return a descriptor of the user namespace above the given one."""
    return fcntl.ioctl(descriptor, _NS_GET_PARENT)


def isolate(network: bool, *, mounts: bool = False) -> None:
    """Give this process its own IPC, UTS and (if wanted) network and mount namespaces.

    Without the privilege a user namespace is made first, in which the caller keeps its ids.
    The caller must have a single thread.

    Raises:
        OSError: namespaces are denied here.
    """
    flags = CLONE_NEWIPC | CLONE_NEWUTS | (CLONE_NEWNET if network else 0)
    flags |= CLONE_NEWNS if mounts else 0
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(flags)
    except PermissionError:
        unshare(flags | CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    if network:
        raise_loopback()
    if mounts:
        _mount(b"none", b"/", b"", _MS_REC | _MS_PRIVATE, b"")


def mount_memory(path: str, size_bytes: int) -> None:
    """Mount an empty file system in memory, of limited size, for this process's user alone."""
    options = f"size={size_bytes},mode=0700".encode()
    _mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, options)


def mount_again(descriptor: int, target: str) -> None:
    """Show what a descriptor stands for at `target` too, in place of what was shown there."""
    _libc.umount2(os.fsencode(target), _MNT_DETACH)
    source = b"/proc/self/fd/%d" % descriptor
    _mount(source, os.fsencode(target), b"", _MS_BIND | _MS_REC, b"")


def _mount(source: bytes, target: bytes, kind: bytes, flags: int, options: bytes) -> None:
    _check(_libc.mount(source, target, kind, flags, options), f"mount at {target.decode()}")


def raise_loopback() -> None:
    """Set the loopback device of this network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        request = struct.pack("16sH14x", b"lo", 0)
        answer = fcntl.ioctl(door, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(door, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
