"""The operating system layer: Debian packages of the release that this machine runs.

Root: mmdebstrap, with maintainer scripts. Everybody else: packages are downloaded by apt and
unpacked; what scripts would do is done only as far as programs need it (users, the loader's cache,
certificates). Mirrors, keys and proxies are apt's own configuration; none is named here, and none
is left in the image. It must not write layers: its neighbour `build.py` does.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from twinfra.compute.containers.errors import ImageBuildFailed
from twinfra.compute.containers.images.tools import output, run

_DISTRIBUTIONS = ("Debian", "Ubuntu")
_UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale")
_ACQUIRE = re.compile(r"^Acquire::(https?|ftp|Retries|ForceIPv[46])\b")
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MERGED = ("bin", "sbin", "lib", "lib64")
_TIDY = (
    'rm -rf "$1"/etc/apt/sources.list* "$1"/etc/apt/apt.conf.d/99mmdebstrap'
    ' "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/* "$1"/etc/resolv.conf "$1"/etc/hostname'
)


def release() -> str:
    """Return what names the release of this machine, for the cache's key."""
    found = platform.freedesktop_os_release()
    name = found.get("VERSION_CODENAME", found.get("VERSION_ID", ""))
    return f"{found.get('ID', '')}-{name}-{platform.machine()}"


def with_scripts() -> bool:
    """Tell whether mmdebstrap can be used: by root only, since it needs to mount and chroot."""
    return os.geteuid() == 0 and shutil.which("mmdebstrap") is not None


def bootstrap(packages: Sequence[str], work: Path, log: Path) -> Path:
    """Make a tar of a root with the packages installed and configured.

    Raises:
        ImageBuildFailed: mmdebstrap failed.
    """
    sources = _sources()
    if not sources and os.geteuid() == 0:
        run(["apt-get", "update"], log)
        sources = _sources()
    if not sources:
        raise ImageBuildFailed("apt knows no Debian or Ubuntu source on this machine")
    options = work / "apt.conf"
    options.write_text(_acquire_options(), encoding="utf-8")
    tar = work / "os.tar"
    excludes = [f"--dpkgopt=path-exclude=/{path}/*" for path in _UNWANTED]
    run(
        [
            "env", f"PATH={_ROOT_PATH}", "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=0", f"TMPDIR={work}",
            "mmdebstrap", "--mode=root", "--variant=essential", "--skip=output/dev",
            f"--include={','.join(packages)}", f"--aptopt={options}", *excludes,
            f"--customize-hook={_TIDY}", "", tar, *sources,
        ],
        log,
    )  # fmt: skip
    return tar


def extract(packages: Sequence[str], work: Path, log: Path) -> Path:
    """Make a root folder with the packages unpacked; works for any user.

    Raises:
        ImageBuildFailed: apt cannot resolve or fetch them, or one cannot be unpacked.
    """
    apt = _private_apt(work)
    run(["apt-get", *apt, "update"], log)
    simulate = ["--simulate", "--no-install-recommends", "install", "?essential"]
    plan = output(["apt-get", *apt, *simulate, *packages])
    wanted = re.findall(r"^Inst (\S+) \((\S+) .*\[(\S+)\]\)", plan, re.MULTILINE)
    if not wanted:
        raise ImageBuildFailed(f"apt cannot install {' '.join(packages)} here")
    archives = work / "archives"
    archives.mkdir()
    names = [f"{name.partition(':')[0]}:{arch}={version}" for name, version, arch in wanted]
    run(
        ["apt-get", *apt, "download", *(name.replace(":all=", "=") for name in names)],
        log,
        cwd=archives,
    )
    root = work / "root"
    _lay_merged_root(root)
    for archive in sorted(archives.glob("*.deb")):
        _unpack(archive, root, log)
    _settle(root, log)
    return root


def python_version(names: Sequence[str]) -> str:
    """Return `3.x` of the python3 whose files a root holds; empty if there is none."""
    found = (re.search(r"usr/bin/python(3\.\d+)$", name) for name in names)
    return max((hit.group(1) for hit in found if hit), default="")


def _sources() -> list[Path]:
    """Return the source files of apt that name the distribution itself, not third parties."""
    wanted = "Created-By: Packages"
    files: dict[Path, None] = {}
    for stanza in output(["apt-get", "indextargets", wanted]).split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        if fields.get("Origin") in _DISTRIBUTIONS:
            files[Path(fields.get("Sourcesentry", "").rpartition(":")[0])] = None
    return [path for path in files if path.is_file()]


def _acquire_options() -> str:
    """Return how this machine's apt reaches its mirrors (proxies, certificates, retries)."""
    lines = output(["apt-config", "dump"]).splitlines()
    return "".join(f"{line}\n" for line in lines if _ACQUIRE.match(line) and '""' not in line)


def _private_apt(work: Path) -> list[str]:
    """Return options by which apt keeps everything it writes in our folder."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    status = work / "state" / "status"
    status.touch()
    settings = {
        "Dir::State": work / "state",
        "Dir::State::Lists": work / "state" / "lists",
        "Dir::State::status": status,
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
        "Acquire::Languages": "none",
    }
    sources = _sources()
    if sources:
        parts = work / "sources.list.d"
        parts.mkdir()
        for source in sources:
            shutil.copyfile(source, parts / source.name)
        settings |= {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": parts}
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _lay_merged_root(root: Path) -> None:
    """Lay the links of a merged /usr before any package is unpacked over them."""
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def _unpack(archive: Path, root: Path, log: Path) -> None:
    tar = archive.with_suffix(".tar")
    with tar.open("wb") as sink:
        _fsys_tarfile(archive, sink.fileno())
    excludes = [f"--exclude=./{path}/*" for path in _UNWANTED]
    flags = ["--keep-directory-symlink", "--no-same-owner", "--same-permissions"]
    run(["tar", "-C", root, *flags, *excludes, "-xf", tar], log)
    tar.unlink()


def _fsys_tarfile(archive: Path, sink: int) -> None:
    done = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", archive],
        check=False, stdin=subprocess.DEVNULL, stdout=sink, timeout=300,
    )  # fmt: skip
    if done.returncode != 0:
        raise ImageBuildFailed(f"{archive.name} cannot be unpacked")


def _settle(root: Path, log: Path) -> None:
    """Do what programs need of the maintainer scripts that were not run."""
    for name in ("passwd", "group"):
        master = root / "usr/share/base-passwd" / f"{name}.master"
        if master.is_file():
            shutil.copyfile(master, root / "etc" / name)
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    if authorities:
        bundle = root / "etc/ssl/certs/ca-certificates.crt"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_text("".join(path.read_text() for path in authorities), encoding="utf-8")
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700)):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
    loader = shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if loader:
        run([loader, "-r", root], log)
