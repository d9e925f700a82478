"""
Runs inside supervisord, where its main file asks for it, and only reads:

    [rpcinterface:fleet]
    supervisor.rpcinterface_factory=fleet.supervisor.plugin:make

supervisord sends 4 KiB of an answer in each turn of its loop, and in each turn
it looks after all its processes: what getAllProcessInfo says of 2,000 of them
is 2 MB, and takes 3 s.  A private supervisord has this; `client` does without
where it is missing.
"""

from __future__ import annotations

from typing import Any

from supervisor.rpcinterface import SupervisorNamespaceRPCInterface

from fleet.supervisor.compact import pack


class Interface:
    """The namespace `fleet`.  supervisord publishes every method that does not begin with an underscore."""

    def __init__(self, supervisord: Any) -> None:
        self._stock = SupervisorNamespaceRPCInterface(supervisord)

    def processes(self) -> str:
        """What getAllProcessInfo says, packed

        @return string result  base64 of zlib of JSON: {"fields": [NAME, ...], "rows": [[VALUE, ...], ...]}
        """
        return pack(self._stock.getAllProcessInfo())


def make(supervisord: Any) -> Interface:
    return Interface(supervisord)
