"""The proxy itself: until it is told to, it changes nothing."""

from __future__ import annotations

import socket
import threading
import time

from tests.proxy import Proxy

_QUESTIONS = 50


def test_an_answer_in_two_pieces_is_passed_on_at_once() -> None:
    """MariaDB answers so; with Nagle's algorithm each answer would take 40 ms more."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Proxy(listener.getsockname()[1]) as proxy:
        server = threading.Thread(target=_answer, args=(listener,), daemon=True)
        server.start()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            took = []
            for _ in range(_QUESTIONS):
                start = time.monotonic()
                client.sendall(b"?")
                assert client.recv(1) == b"1"
                assert client.recv(1) == b"2"
                took.append(time.monotonic() - start)
        server.join(5)
    # Those that met a busy machine are not counted.
    assert sorted(took)[_QUESTIONS // 4] < 0.03


def _answer(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(1):
            connection.sendall(b"1")
            time.sleep(0.001)  # so that the proxy sees two
            connection.sendall(b"2")


def test_a_slow_line_keeps_the_order_of_what_it_delays() -> None:
    """Each byte has its time on the line and its way; the end comes last."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Proxy(listener.getsockname()[1]) as proxy:
        proxy.slow(delay=0.1, rate=1000)
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"x" * 100)
                time.sleep(0.02)
                client.sendall(b"y" * 100)
                client.shutdown(socket.SHUT_WR)
                heard = b"".join(iter(lambda: server.recv(1000), b""))
        assert heard == b"x" * 100 + b"y" * 100
        assert time.monotonic() - start >= 0.3
        assert proxy.delayed == 200
