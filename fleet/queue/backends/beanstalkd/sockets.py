"""Sockets to beanstalkd, whose reads and writes end by themselves."""

from __future__ import annotations

import socket
import struct

Address = tuple[str, int] | str  # host and port, or the path of a unix socket

ANSWER_WITHIN = 15  # seconds; a put waits for a slow disk's fsync, a vanished host for ever


def dial(address: Address, timeout: float) -> socket.socket:
    """A connected socket whose reads and writes end by themselves.  Raises OSError."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
    else:
        sock = socket.create_connection(address, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a host that vanished in the middle of a send
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ANSWER_WITHIN * 1000)
    let_the_kernel_time(sock)
    return sock


def let_the_kernel_time(sock: socket.socket, seconds: float = ANSWER_WITHIN) -> None:
    """Have its reads end after *seconds*."""
    # Python's own time-outs cost a poll() before every read, a tenth of a put.
    sock.settimeout(None)
    microseconds = max(1, round(seconds * 1e6))  # 0 would be for ever
    sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", *divmod(microseconds, 1_000_000))
    )
