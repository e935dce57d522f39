"""Streams for what may be lost: no error, no wait, and nothing lost where the stream takes it."""

from __future__ import annotations

import io
import os

import pytest

from nameplate.base.streams import BackgroundStream, TolerantStream


def test_what_the_stream_takes_is_written():
    below = io.StringIO()
    print("a line", file=TolerantStream(below), flush=True)
    assert below.getvalue() == "a line\n"


@pytest.mark.parametrize("kind", [TolerantStream, BackgroundStream])
def test_a_stream_that_was_closed_raises_nothing(kind):
    below = io.StringIO()
    stream = kind(below)
    below.close()
    print("a line", file=stream, flush=True)


def test_a_thread_writes_all_in_order_and_without_a_substitute_where_the_encoding_has_it():
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as out, os.fdopen(writing, "w", encoding="ascii") as below:
        stream = BackgroundStream(below)
        for number in range(100):
            print(f"{number} ±", file=stream)
        assert stream.wait(60)
        below.close()
        assert out.read().splitlines() == [f"{number} ?" for number in range(100)]


def test_who_waits_for_a_held_stream_waits_only_so_long():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as below:
        stream = BackgroundStream(below)
        stream.write("x" * 10_000_000)  # more than a pipe holds
        assert not stream.wait(0.1)
        os.close(reading)
        assert stream.wait(60)
