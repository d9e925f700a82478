"""
Small file systems that a fault may fill, and the disk that loses its power.

`Disk` is ext4 on a loop image.  Its image holds what the kernel has handed to
the device, and so what is left after a power cut: data that a program has
written and not synced is still in the page cache, and not in a copy of the image.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import psutil

_MiB = 1 << 20
# No flush of the journal by chance: what nobody has synced stays off the disk.
_OPTIONS = "loop,noatime,data=ordered,commit=300"


class Partition:
    """A tmpfs of *size* bytes at *mount*."""

    def __init__(self, mount: Path, size: int) -> None:
        self.mount = mount
        mount.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", f"{mount}")

    def fill(self) -> int:
        """Leave no byte free; how many there were."""
        free = self.free
        with open(self._ballast, "ab", buffering=0) as file:
            for piece in (_MiB, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * piece)
        return free

    def drain(self) -> None:
        self._ballast.unlink(missing_ok=True)

    @property
    def free(self) -> int:
        """Bytes that anybody may still write."""
        state = os.statvfs(self.mount)
        return state.f_bavail * state.f_frsize

    @property
    def is_full(self) -> bool:
        """Whether a write of one block is refused, tried."""
        probe = self.mount / "probe"
        try:
            probe.write_bytes(b"\0" * 65536)
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            probe.unlink(missing_ok=True)
        return False

    def users(self) -> list[psutil.Process]:
        """Who has a file open there."""
        found = set()
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if link.readlink().is_relative_to(self.mount):
                    found.add(psutil.Process(int(link.parts[2])))
        return list(found)

    def close(self) -> None:
        # Lazily: whoever still has a file there keeps it, and no run fails over that.
        subprocess.run(["umount", "-l", f"{self.mount}"], check=False, stderr=subprocess.DEVNULL)

    @property
    def _ballast(self) -> Path:
        return self.mount / "ballast"


class Disk(Partition):
    """An ext4 of *size* bytes on an image in *images*, mounted at *mount*."""

    def __init__(self, images: Path, mount: Path, size: int) -> None:
        self.mount = mount
        self._images = images
        self._number = 0
        mount.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,nodiscard", f"{self.image}")
        _run("mount", "-o", _OPTIONS, f"{self.image}", f"{mount}")
        mount.chmod(0o755)

    @property
    def image(self) -> Path:
        return self._images / f"disk-{self._number}.img"

    def sync(self) -> None:
        """Make everything so far durable."""
        _run("sync", "-f", f"{self.mount}")

    def snapshot(self) -> bool:
        """Copy what is on the disk now, page cache left out; whether its journal has to be replayed."""
        copy = self._images / f"disk-{self._number + 1}.img"
        _run("cp", "--sparse=auto", f"{self.image}", f"{copy}")
        return "needs_recovery" in _run("dumpe2fs", "-h", f"{copy}")

    def come_back(self) -> None:
        """Mount the copy in place of the disk; another fault that still looks there sees the old one."""
        _run("umount", "--lazy", f"{self.mount}")
        self.image.unlink()
        self._number += 1
        _run("mount", "-o", _OPTIONS, f"{self.image}", f"{self.mount}")
        self.drain()  # that the disk was given space again may not have been synced

    def close(self) -> None:
        super().close()
        self.image.unlink(missing_ok=True)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command[:2])}: {done.stderr.strip()[:200]}")
    return done.stdout
