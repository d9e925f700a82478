"""What is measured: one library over one store, behind the same few methods.  Imports nothing of fleet's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

PIPELINE = "bench"
BATCH = 100  # jobs a batched drain takes at once
SIZE = 100  # bytes a payload has

Done = Callable[[int], None]  # told how many jobs were taken *and* settled since the last call
Seen = Callable[[bytes], None]  # told the payload of a job that was just picked up


class Unsupported(Exception):
    """This contender has no such thing; its cell stays empty."""


class Contender:
    """
    One library, connected to one store.

    Made inside the process that is measured.  `drain`, `one` and `serve` run
    until the process is ended; the others return.
    """

    def __init__(self, dsn: str) -> None:
        raise NotImplementedError

    def create(self) -> None:
        """Make the tables, once for each fresh store."""

    def fill(self, count: int) -> None:
        """Store *count* jobs before anything is measured."""
        self.put_many(payloads(count))

    def crowd(self, count: int) -> None:
        """Store *count* delayed jobs and as many buried ones beside those that are ready."""
        raise Unsupported

    def put(self, payloads: Sequence[bytes]) -> None:
        """Store each payload durably before the next is sent."""
        raise Unsupported

    def put_many(self, payloads: Sequence[bytes]) -> None:
        """Store them in the fastest way there is."""
        raise Unsupported

    def one(self, done: Done) -> None:
        """Take a job, settle it, and only then take the next."""
        raise Unsupported

    def drain(self, done: Done) -> None:
        """Take and settle jobs in the fastest way there is."""
        raise Unsupported

    def serve(self, seen: Seen) -> None:
        """Wait for jobs that come one by one, and settle each."""
        raise Unsupported

    def stats(self) -> None:
        """Ask for the numbers of the pipeline."""
        raise Unsupported


def payload(number: int) -> bytes:
    """A JSON object of 100 bytes that carries its number."""
    head = b'{"n":%d,"user":"ada@example.org","action":"send","pad":"' % number
    return head + b"x" * (SIZE - len(head) - 2) + b'"}'


def number_of(payload: bytes) -> int:
    return int(payload[5 : payload.index(b",")])


def payloads(count: int) -> list[bytes]:
    return [payload(number) for number in range(count)]
