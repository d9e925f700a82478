"""A server that is broken or hostile ends in a clear error, within the deadline."""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.errors import BadReply, FleetError, SupervisorFault, SupervisorUnavailable
from fleet.supervisor.client import Supervisor
from fleet.supervisor.transport import MAX_BYTES

TIMEOUT = 0.6  # for a server that stalls
PATIENCE = 60.0  # for one that answers: not the deadline, but what it says is to be refused
STALLS = "no whole answer"


@contextmanager
def serving(
    answer: Callable[[socket.socket], None],
    path: Path,
    *,
    plugin: bool = False,
    state: bool = False,
    timeout: float = PATIENCE,
) -> Iterator[Supervisor]:
    """
    A unix socket that gives every caller *answer*; with *plugin* also one who asks fleet's plug-in.

    With *state* it tells its state and version as a sound supervisord does.
    """
    ended = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while not ended.is_set():
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    try:
                        asked = b""
                        while b"</methodCall>" not in asked:
                            asked += client.recv(65536)
                        if state and b"supervisor.getState" in asked:
                            sound(client)
                        elif not plugin and b"<methodName>fleet." in asked:
                            no_such_method(client)
                        else:
                            answer(client)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Supervisor(f"unix://{path}", username="fleet", password="hunter2", timeout=timeout)
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def http(body: str | bytes, status: str = "200 OK", headers: str = "") -> Callable[[socket.socket], None]:
    raw = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{headers}\r\n".encode()
    return lambda client: client.sendall(head + raw)


def response(value: str) -> str:
    return (
        "<?xml version='1.0'?><methodResponse><params><param><value>"
        f"{value}</value></param></params></methodResponse>"
    )


def fault(code: int, text: str) -> str:
    return (
        "<methodResponse><fault><value><struct>"
        f"<member><name>faultCode</name><value><int>{code}</int></value></member>"
        f"<member><name>faultString</name><value><string>{text}</string></value></member>"
        "</struct></value></fault></methodResponse>"
    )


def no_such_method(client: socket.socket) -> None:
    http(fault(1, "UNKNOWN_METHOD"))(client)


def sound(client: socket.socket) -> None:
    state = "<struct><member><name>statename</name><value>RUNNING</value></member></struct>"
    answers = (state, f"<int>{os.getpid()}</int>", "4.3.0", "3.0")
    values = "".join(f"<value>{answer}</value>" for answer in answers)
    http(response(f"<array><data>{values}</data></array>"))(client)


def a_process(**changes: str) -> str:
    fields = {
        "name": "<string>w_00</string>",
        "group": "<string>w</string>",
        "start": "<int>1</int>",
        "stop": "<int>0</int>",
        "now": "<int>5</int>",
        "state": "<int>20</int>",
        "spawnerr": "<string></string>",
        "exitstatus": "<int>0</int>",
        "stdout_logfile": "<string></string>",
        "pid": "<int>12</int>",
    } | changes
    members = "".join(
        f"<member><name>{name}</name><value>{value}</value></member>"
        for name, value in fields.items()
        if value
    )
    return f"<array><data><value><struct>{members}</struct></value></data></array>"


def silent(client: socket.socket) -> None:
    client.recv(1)  # returns when the caller gives up


def one_byte_at_a_time(client: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n":
        client.sendall(bytes([byte]))
        time.sleep(0.3)


def slow_body(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        client.sendall(b" ")
        time.sleep(0.1)


def endless(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n<?xml version='1.0'?><methodResponse>")
    while True:
        client.sendall(b" " * 65536)


def endless_header(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        client.sendall(b"x" * 65536)


BOMB = (
    "<?xml version='1.0'?><!DOCTYPE b [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>"
    "<methodResponse><params><param><value>&b;</value></param></params></methodResponse>"
)

HOSTILE = {
    "says nothing": (silent, SupervisorUnavailable, STALLS),
    "one byte at a time": (one_byte_at_a_time, SupervisorUnavailable, STALLS),
    "slow body": (slow_body, SupervisorUnavailable, STALLS),
    "endless body": (endless, FleetError, f"larger than {MAX_BYTES // 1024**2} MiB|{STALLS}"),
    "endless header": (endless_header, BadReply, "not answer in HTTP"),
    "closes at once": (lambda client: None, BadReply, "not answer in HTTP"),
    "not HTTP": (lambda client: client.sendall(b"+OK ready\r\n"), BadReply, "not answer in HTTP"),
    "document type": (http(BOMB), BadReply, "DOCTYPE"),
    "a web page": (http("<!DOCTYPE html><html></html>"), BadReply, "DOCTYPE"),
    "control characters": (http(response("<string>\x1b[31mred</string>")), BadReply, "strip_ansi"),
    "cut short": (http(response("<int>1</int>")[:-9]), BadReply, "not XML"),
    "not XML": (http("hello"), BadReply, "not XML"),
    "other XML": (http("<a><b/></a>"), BadReply, "not XML-RPC"),
    "empty body": (http(""), BadReply, "not XML"),
    "deep nesting": (http("<value>" * 50), BadReply, "nested too deep"),
    "a number that is none": (http(response("<int>seven</int>")), BadReply, "not XML-RPC"),
    "redirect": (http("", "302 Found", "Location: http://127.0.0.1:1/\r\n"), BadReply, "redirect"),
    "wrong password": (http("", "401 Unauthorized"), SupervisorUnavailable, "refuses the user name"),
    "forbidden": (http("", "403 Forbidden"), SupervisorUnavailable, "refuses the user name"),
    "not found": (http("", "404 Not Found"), BadReply, "404"),
    "bug in the server": (http("", "500 Oops"), BadReply, "its own log|Its own log"),
    "compressed": (
        http(gzip.compress(b" " * 99999), headers="Content-Encoding: gzip\r\n"),
        BadReply,
        "encoding",
    ),
    "not a list": (http(response("<int>1</int>")), BadReply, "without a list"),
    "state as text": (http(response(a_process(state="<string>RUNNING</string>"))), BadReply, "state"),
    "unknown state": (http(response(a_process(state="<int>21</int>"))), BadReply, "state 21"),
    "negative pid": (http(response(a_process(pid="<int>-1</int>"))), BadReply, "pid"),
    "huge pid": (http(response(a_process(pid=f"<int>{10**30}</int>"))), BadReply, "pid"),
    "pid is true": (http(response(a_process(pid="<boolean>1</boolean>"))), BadReply, "pid"),
    "time is NaN": (http(response(a_process(now="<double>nan</double>"))), BadReply, "now"),
    "name is nil": (http(response(a_process(name="<nil/>"))), BadReply, "name"),
    "name is missing": (http(response(a_process(name=""))), BadReply, "name"),
    "a fault without text": (
        http("<methodResponse><fault><value><int>1</int></value></fault></methodResponse>"),
        BadReply,
        "a fault that has no number|not XML-RPC",
    ),
}
# The words of those that lie about processes, and would be no answer to another question either.
ABOUT_PROCESSES = {"without a list", "state", "state 21", "pid", "now", "name"}


def patience_for(text: str) -> float:
    return TIMEOUT if STALLS in text else PATIENCE


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_server_ends_in_a_clear_error_in_time(case: str, tmp_path: Path) -> None:
    """Exit code 5, the address in the text, no password in it, and never later than the deadline."""
    answer, error, text = HOSTILE[case]
    with serving(answer, tmp_path / "s.sock", timeout=patience_for(text)) as supervisor:
        began = time.monotonic()
        with pytest.raises(error, match=text) as caught:
            supervisor.processes()
        took = time.monotonic() - began
    assert STALLS not in text or took < 8  # a deadline of each read would let the slowest go on for 13 s
    assert caught.value.exit_code == 5
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).isprintable()


def packed(text: str | bytes) -> str:
    return base64.b64encode(zlib.compress(text.encode() if isinstance(text, str) else text)).decode()


WHOLE_JSON = '{"fields": ["a"], "rows": []}'
WHOLE = packed(WHOLE_JSON)
# What only a plug-in says; the rest is as above.
PACKED = {
    "a number": "<int>1</int>",
    "not base64": "<string>{}</string>",
    "not packed": f"<string>{base64.b64encode(b'[]').decode()}</string>",
    "cut short": f"<string>{WHOLE[:-8]}</string>",
    "not JSON": f"<string>{packed('hello')}</string>",
    "not text": f"<string>{packed(bytes([0xFF]))}</string>",
    "no object": f"<string>{packed('[]')}</string>",
    "without fields": f"<string>{packed(json.dumps({'rows': []}))}</string>",
    "fields that are none": f"<string>{packed(json.dumps({'fields': 1, 'rows': [[1]]}))}</string>",
    "a row too long": f"<string>{packed(json.dumps({'fields': ['group'], 'rows': [['w', 1]]}))}</string>",
    "deep": f"<string>{packed('[' * 100_000)}</string>",
    "huge": f"<string>{packed(b' ' * 100_000_000)}</string>",
    "huge before it is unpacked": f"<string>{'A' * 9_000_000}</string>",
    "millions of lists": f"<string>{packed('[' + '[],' * 2_700_000 + '[]]')}</string>",
    "not ASCII": f"<string>{packed(WHOLE_JSON.replace('a', 'é'))}</string>",
    "a row that is a number": f"<string>{packed(json.dumps({'fields': ['group'], 'rows': [1]}))}</string>",
}


@pytest.mark.parametrize("case", PACKED)
def test_a_hostile_plugin_ends_in_a_clear_error(case: str, tmp_path: Path) -> None:
    """It names the section that brought it; nothing of 100 MB is unpacked."""
    with (
        serving(http(response(PACKED[case])), tmp_path / "s.sock", plugin=True) as supervisor,
        pytest.raises(BadReply, match=r"\[rpcinterface:fleet\]") as caught,
    ):
        supervisor.processes()
    assert caught.value.exit_code == 5


def test_a_plugin_is_believed_no_more_than_supervisord(tmp_path: Path) -> None:
    """Each field is looked at, and one that is missing is told."""
    rows = {"fields": ["group", "name", "state"], "rows": [["w", "w_00", 20]]}
    answer = http(response(f"<string>{packed(json.dumps(rows))}</string>"))
    with (
        serving(answer, tmp_path / "s.sock", plugin=True) as supervisor,
        pytest.raises(BadReply, match="reports pid as None"),
    ):
        supervisor.processes()


def test_a_look_up_over_several_connections_takes_no_longer_than_one(tmp_path: Path) -> None:
    """The deadline is that of the whole."""
    with serving(silent, tmp_path / "s.sock", timeout=2.0) as supervisor:
        began = time.monotonic()
        with pytest.raises(SupervisorUnavailable, match=STALLS):
            supervisor.lookup([f"w:w_{number:03d}" for number in range(300)])
        assert time.monotonic() - began < 8  # five connections, one after another, take 10 s


def test_a_look_up_over_several_connections_costs_no_more_than_one(tmp_path: Path) -> None:
    """What an answer may hold is shared out among those that come at once."""
    answer = http(response(f"<string>{'x' * (MAX_BYTES // 15)}</string>"))
    with (
        serving(answer, tmp_path / "s.sock") as supervisor,
        pytest.raises(BadReply, match="larger than 1 MiB"),
    ):
        supervisor.lookup([f"w:w_{number:03d}" for number in range(960)])


def test_a_process_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    """A name must not be shown with the state of another."""
    with (
        serving(http(response(a_process())), tmp_path / "s.sock") as supervisor,
        pytest.raises(BadReply, match="asked for w:w_01 and tells of w:w_00"),
    ):
        supervisor.lookup(["w:w_01"])


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    """A newer supervisord may say more."""
    with serving(http(response(a_process(extra="<nil/>"))), tmp_path / "s.sock") as supervisor:
        (process,) = supervisor.processes()
    assert process.full_name == "w:w_00"
    assert process.uptime == 4


def test_a_fault_keeps_its_number_and_shows_no_control_characters(tmp_path: Path) -> None:
    """Fault texts quote file contents; what reaches a terminal is visible."""
    answer = http(fault(92, "CANT_REREAD: a\nb\u202e"))
    with serving(answer, tmp_path / "s.sock") as supervisor, pytest.raises(SupervisorFault) as caught:
        supervisor.reload_config()
    assert caught.value.code == 92
    assert str(caught.value) == "CANT_REREAD: a\\nb\\u202e"


@pytest.mark.parametrize(
    "url", ["", "unix:relative", "unix://host/path", "https://h:1", "http://u:p@h:1", "/run/s"]
)
def test_an_address_of_another_form_is_refused(url: str) -> None:
    """A password in a URL would end up in `ps` and in error texts."""
    with pytest.raises(ValueError, match="expected unix:///"):
        Supervisor(url)
