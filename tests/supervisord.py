"""
The supervisords that tests run against, both of those that fleet supports.

4.3.0 is installed with fleet.  4.2.5 (Debian's) gets an environment of its own,
built once and kept in the system's temporary folder; it imports pkg_resources,
which newer setuptools no longer have.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.supervisor import private
from fleet.supervisor.client import Supervisor
from fleet.supervisor.private import Home

VERSIONS = ("4.3.0", "4.2.5")


ROOT = Path(__file__).parents[1]


def python_with(version: str) -> str:
    """The path of a Python interpreter that can import supervisor of that version, and this fleet."""
    if version == "4.3.0":
        return sys.executable
    tag = f"{sys.version_info.major}{sys.version_info.minor}"
    cache = Path(tempfile.gettempdir()) / f"fleet-tests-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    venv = cache / f"supervisor-{version}-py{tag}"
    python = venv / "bin" / "python"
    with open(cache / f"supervisor-{version}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs share this cache
        if not (venv / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
            install = [
                str(python),
                "-m",
                "pip",
                "install",
                "-q",
                "setuptools==65.5.0",
                f"supervisor=={version}",
            ]
            done = subprocess.run(install, capture_output=True, text=True)
            if done.returncode:
                if os.environ.get("CI"):
                    raise AssertionError(f"supervisor {version} cannot be installed:\n{done.stderr}")
                pytest.skip(f"supervisor {version} cannot be installed here: {done.stderr.strip()[-200:]}")
            (venv / "complete").touch()
        # The cache serves any number of checkouts, and supervisord imports its plug-in from this one.
        command = cache / f"supervisor-{version}-py{tag}-{hashlib.sha256(bytes(ROOT)).hexdigest()[:8]}"
        if not command.exists():
            command.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {python} "$@"\n')
            command.chmod(0o700)
    return str(command)


MAIN_CONF = """\
[supervisord]
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
childlogdir={dir}/logs
identifier=fleet-test
{user}
[unix_http_server]
file={socket}
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files={dir}/conf.d/*.conf
"""
PLUGIN = """\
[rpcinterface:fleet]
supervisor.rpcinterface_factory=fleet.supervisor.plugin:make
"""


def main_conf(home: Home) -> str:
    """A main file for a private supervisord, as small as it can be, and without fleet's plug-in."""
    user = "user=root" if os.geteuid() == 0 else ""
    return MAIN_CONF.format(dir=home.state_dir, socket=home.socket, user=user)


@contextmanager
def private_home(folder: Path, files: Mapping[str, str] | None = None) -> Iterator[Home]:
    """A prepared home with these conf.d files; whatever supervisord runs there at the end is ended."""
    home = private.home(folder / ".fleet")
    private.prepare(home)
    home.main_conf.write_text(main_conf(home))
    for name, text in (files or {}).items():
        (home.conf_dir / name).write_text(text)
    try:
        yield home
    finally:
        if private.find(home) is not None:
            Supervisor(home.url).stop_all()
        private.stop(home)
