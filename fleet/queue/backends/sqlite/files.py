"""What the operating system tells about a SQLite file: where it lies, and which boot this is."""

from __future__ import annotations

import os

from fleet.errors import DsnError, limit_hit

# WAL needs shared memory on one host, and locks that these do not keep.
_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.", "ceph", "gluster", "afs", "lustre")


def location(path: str) -> str:
    """How a file is named in messages."""
    return f"sqlite:///{path}" if path else "the caller's SQLite connection"


def is_missing(path: str) -> bool:
    """Whether there is no such file; where this user may not look, nobody knows."""
    try:
        os.stat(path)  # noqa: PTH116 - pathlib is not worth its import
    except FileNotFoundError:
        return path != ":memory:"
    except OSError:
        pass
    return False


def boot_id() -> str:
    """A text that is the same until the next boot; "" where the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def refuse_network_file_system(path: str) -> None:
    """Raises DsnError when *path* lies on a network file system, where SQLite's WAL is not safe."""
    folder = os.path.realpath(os.path.dirname(path) or ".")  # noqa: PTH120 - pathlib is not worth its import
    kind = _file_system(folder)
    if kind.startswith(_NETWORK):
        raise DsnError(
            f"{location(path)} lies on a {kind} file system, where SQLite can lose or corrupt jobs. "
            "Use a local disk, or a database server. (?force=1 insists.)"
        )


def is_on_read_only_disk(path: str) -> bool:
    """Whether nothing in the folder of *path* can be written by anybody, as after a disk error."""
    try:
        return bool(os.statvfs(os.path.dirname(path) or ".").f_flag & os.ST_RDONLY)  # noqa: PTH120
    except OSError:
        return False


def limit_on_files() -> str:
    """That this process may not open the three files that SQLite needs, which it does not tell; else ""."""
    opened: list[int] = []
    try:
        opened.extend(os.open("/", os.O_RDONLY) for _ in range(3))
    except OSError as error:
        return limit_hit(error)
    finally:
        for fd in opened:
            os.close(fd)
    return ""


def not_writable(path: str) -> str:
    """Which of the files that SQLite writes this user may not write, and whose it is; "" if none is known."""
    for name in (path, f"{path}-wal", f"{path}-shm", os.path.dirname(path) or "."):  # noqa: PTH120
        if os.path.exists(name) and not os.access(name, os.W_OK):  # noqa: PTH110
            found = os.stat(name)  # noqa: PTH116
            return (
                f"This user may not write {name} (mode {found.st_mode & 0o7777:04o}, owner {found.st_uid}): "
                "chown it to the user that the workers run as."
            )
    return ""


def _file_system(folder: str) -> str:
    best, kind = "", ""
    try:
        with open("/proc/self/mounts") as file:
            for line in file:
                _, mount, type_, *_ = line.split(" ")
                mount = mount.replace("\\040", " ")
                inside = folder == mount or folder.startswith(mount.rstrip("/") + "/")
                if inside and len(mount) >= len(best):
                    best, kind = mount, type_
    except OSError:
        return ""
    return kind
