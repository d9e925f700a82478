"""Putting: many commands in one send, and what the server may answer instead of INSERTED."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fleet.queue.backends.beanstalkd.protocol import Link, must, unexpected
from fleet.queue.backends.beanstalkd.server import LogWatch

_COMMANDS = 500  # in one send
_BYTES = 256 * 1024  # in one send
_INSERTED = b"INSERTED "
_REFUSALS = {
    b"DRAINING": "beanstalkd is draining (it got SIGUSR1) and takes no new jobs until it is started again",
    b"OUT_OF_MEMORY": "beanstalkd has no memory left, or no room for its log",
    b"JOB_TOO_BIG": "a payload has more bytes than beanstalkd takes (-z)",
}


def put(
    link: Link, pipeline: str, head: bytes, payloads: Sequence[bytes], ids: list[int], log: LogWatch
) -> bytes:
    """
    Store the payloads and collect their *ids*; returns the server's first refusal, or b"".

    A chunk is sent before the answers to the last one are read, so that the server is never idle.
    """
    look = log.is_due()
    link.use(pipeline)
    if len(payloads) == 1 and not look:
        payload = payloads[0]
        link.send(b"%b %d\r\n%b\r\n" % (head, len(payload), payload))
        answer = link.line()
        if not answer.startswith(_INSERTED):
            return _refusal(answer)
        ids.append(int(answer[9:]))
        log.stored += 1
        return b""
    refusal, unread = b"", 0
    for chunk in _chunks(payloads):
        link.send(b"".join([b"%b %d\r\n%b\r\n" % (head, len(raw), raw) for raw in chunk]))
        if unread:
            refusal = _take_ids(link.lines(unread), ids)
        unread = len(chunk)
        if refusal:
            break
    if look:
        link.send(b"stats\r\n")
    refusal = _take_ids(link.lines(unread), ids) or refusal
    log.stored += len(ids)
    if look:
        log.look(must(link.table()))
    return refusal


def words(refusal: bytes) -> str:
    """A refusal as a sentence without its end."""
    if refusal.startswith(b"BURIED "):
        return (
            f"job {int(refusal[7:])} was stored buried, because the server has no memory left or could not "
            "write its log"
        )
    return _REFUSALS[refusal]


def _chunks(payloads: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    first = size = 0
    for index, payload in enumerate(payloads):
        if index - first == _COMMANDS or (index > first and size + len(payload) > _BYTES):
            yield payloads[first:index]
            first, size = index, 0
        size += len(payload)
    yield payloads[first:]


def _take_ids(answers: Iterable[bytes], ids: list[int]) -> bytes:
    refusal = b""
    for answer in answers:
        if answer.startswith(_INSERTED):
            ids.append(int(answer[9:]))
        else:
            refused = _refusal(answer)
            refusal = refusal or refused
    return refusal


def _refusal(answer: bytes) -> bytes:
    if answer in _REFUSALS or answer.startswith(b"BURIED "):
        return answer
    # BAD_FORMAT or EXPECTED_CRLF would mean that a payload is being read as commands.
    raise unexpected(answer)
