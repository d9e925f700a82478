"""Secrets are named in the manifest and read where they are needed; they are never rendered or shown."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import Refused, SecretError
from fleet.manifest import dsn

if TYPE_CHECKING:
    from fleet.manifest.values import Manifest

_LARGEST = 64 * 1024  # bytes; a secret is a password or a key, not a file system


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Where a secret comes from: exactly one of a file, a variable, a systemd credential."""

    file: str | None = None  # absolute
    env: str | None = None
    credential: str | None = None  # a file name in $CREDENTIALS_DIRECTORY
    optional: bool = False  # without it the value is simply missing

    def read(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """
        The secret itself, without the line end of its file; None if it is optional and missing.

        Raises:
            SecretError: it is missing, too large, or not UTF-8.
            Refused: everybody may read the file, or others may write it.
        """
        value = environ.get(self.env) if self.env is not None else self._read_file(environ)
        if value is None and not self.optional:
            raise SecretError(f"secret {self}: not there. Create it, or mark it optional = true.")
        return value

    def _read_file(self, environ: Mapping[str, str]) -> str | None:
        if self.file is not None:
            path = Path(self.file)
        elif folder := environ.get("CREDENTIALS_DIRECTORY"):
            path = Path(folder) / str(self.credential)
        else:
            return None
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if self.file is not None and stat.S_ISREG(mode) and mode & 0o026:
                    raise Refused(f"secret {self}: others may read or write it. Run: chmod o=,g-w {path}")
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretError(f"secret {self}: {error.strerror}. Make it readable for this user.") from error
        if len(data) > _LARGEST:
            raise SecretError(f"secret {self}: larger than 64 KiB. Is it the right file?")
        try:
            return data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise SecretError(f"secret {self}: not UTF-8 text (byte {error.start}).") from error

    def spec(self) -> dict[str, str]:
        """Its place, as a worker spec says it; never the value."""
        if self.file is not None:
            return {"file": self.file}
        if self.env is not None:
            return {"env": self.env}
        return {"credential": str(self.credential)}

    def __str__(self) -> str:
        (kind, place), *_ = self.spec().items()
        return f"{kind} {place}"


def dsn_with_password(manifest: Manifest, environ: Mapping[str, str] = os.environ) -> str:
    """
    The DSN as a driver needs it, its password read from the secret source.

    Raises:
        SecretError, Refused: as `Secret.read`.
    """
    secret = manifest.queue.password
    password = secret.read(environ) if secret else None
    return manifest.queue.dsn if password is None else dsn.with_password(manifest.queue.dsn, password)
