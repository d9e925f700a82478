"""Log lines that never stop a job."""

from __future__ import annotations

import json
import os

from fleet.queue.job import Job
from fleet.worker.log import Log, Stream, current_job
from tests.waiting import eventually


def test_text_lines_can_be_split_again() -> None:
    """Values with spaces, quotes or control characters are quoted, so that one event is one line."""
    read, write = os.pipe()
    log = Log(fd=write)
    log("failed", job=7, reason='a "b"\nc', took=0.25, word="plain")
    log.close()

    line = os.read(read, 4096).decode()
    assert line.endswith('Z failed job=7 reason="a \\"b\\"\\nc" took=0.25 word=plain\n')
    os.close(read)
    os.close(write)


def test_json_lines_hold_the_detail_too() -> None:
    """A traceback is part of the object; a text line leaves it out."""
    read, write = os.pipe()
    log = Log(json_lines=True, fd=write)
    log.trouble("buried", "Traceback …\nline", job=7)
    log.close()

    event = json.loads(os.read(read, 4096))
    assert (event["event"], event["job"], event["detail"]) == ("buried", 7, "Traceback …\nline")
    os.close(read)
    os.close(write)


def test_a_reader_that_does_not_read_costs_lines_and_nothing_else() -> None:
    """What does not fit is dropped, and the count is told once there is room."""
    read, write = os.pipe()
    log = Log(fd=write, limit=50)
    for number in range(500):
        log.line(f"{number} " + "x" * 1000)
    os.set_blocking(read, False)
    text = b""

    def reads_on() -> bool:
        nonlocal text
        try:
            text += os.read(read, 65536)
        except BlockingIOError:
            log.line("and on")
        return b"and on" in text

    eventually(reads_on)
    assert b"log-dropped lines=" in text
    log.close()
    os.close(read)
    os.close(write)


def test_a_stream_cuts_prints_into_lines() -> None:
    """Half lines wait for their end; bytes are taken too, and scripts may ask for what they are used to."""
    read, write = os.pipe()
    log = Log(fd=write)
    stream = Stream(log, write)
    stream.reconfigure(line_buffering=True, encoding="utf-8")
    print("one", end=" ", file=stream)
    print("two\nthree", file=stream)
    stream.buffer.write(b"four\n")
    log.close()
    assert os.read(read, 4096).decode() == "one two\nthree\nfour\n"
    os.close(read)
    os.close(write)


def test_a_line_without_an_end_is_written_in_pieces() -> None:
    """Progress dots of a million jobs are neither kept for ever nor copied for each one more."""
    read, write = os.pipe()
    log = Log(fd=write)
    stream = Stream(log, write)
    for _ in range(20_000):
        print(".", end="", file=stream)
    log.close()
    assert [len(line) for line in os.read(read, 65536).splitlines()] == [8194, 8194]  # the mark of a cut: 3
    os.close(read)
    os.close(write)


def test_what_a_handler_prints_names_its_job_in_a_json_log() -> None:
    """Every line is an object, so that a log collector can find all lines of one job."""
    read, write = os.pipe()
    log = Log(json_lines=True, fd=write)
    stream = Stream(log, write)
    current_job.set(Job(7, "emails", b"", attempt=2))
    print('half of "it"', file=stream)
    current_job.set(None)
    print("outside", file=stream)
    log.close()

    about, outside = [json.loads(line) for line in os.read(read, 4096).splitlines()]
    assert about.items() >= {"event": "said", "job": 7, "pipeline": "emails", "attempt": 2}.items()
    assert about["text"] == 'half of "it"'
    assert outside["text"] == "outside" and "job" not in outside
    os.close(read)
    os.close(write)
