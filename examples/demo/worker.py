"""A worker as a plain script: it counts the words of a text."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from files import write_whole

import fleet

queue = fleet.connect()  # $FLEET_DSN, which fleet sets for every worker
for job in queue.consume("wordcount"):  # ends after the job in hand on SIGTERM
    text = Path(job.data["text"])
    words = re.findall(r"\w+", text.read_text(encoding="utf-8").lower())
    counts = dict(Counter(words).most_common())
    write_whole(Path("out/wordcount") / f"{text.stem}.json", json.dumps(counts, indent=1).encode())
