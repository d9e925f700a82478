"""The client that fleet itself could have stood on."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import greenstalk

from benchmarks.contender import PIPELINE, Contender, Done, Seen


class Greenstalk(Contender):
    def __init__(self, dsn: str) -> None:
        url = urlsplit(dsn)
        self._client = greenstalk.Client(
            (url.hostname or "", url.port or 11300), encoding=None, use=PIPELINE, watch=PIPELINE
        )

    def put(self, payloads: Sequence[bytes]) -> None:
        for each in payloads:
            self._client.put(each)

    put_many = put

    def one(self, done: Done) -> None:
        while True:
            self._client.delete(self._client.reserve())
            done(1)

    drain = one

    def serve(self, seen: Seen) -> None:
        while True:
            job = self._client.reserve()
            seen(job.body)
            self._client.delete(job)

    def stats(self) -> None:
        self._client.stats_tube(PIPELINE)
