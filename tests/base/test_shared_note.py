"""A note in shared memory: read by whoever has the descriptor, and never in halves."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nameplate.base import shared_note
from nameplate.base.shared_note import SharedNote


@pytest.fixture
def note():
    note = SharedNote()
    yield note
    note.close()


def test_a_note_is_read_as_it_was_written_last(note):
    assert note.read() is None
    note.write({"case": "ü" * 100, "until_s": 1.5})
    note.write({"case": None})
    assert note.read() == {"case": None}


def test_what_does_not_fit_is_an_empty_object(note):
    note.write({"case": "x" * 5000})
    assert note.read() == {}


def test_a_half_written_note_is_none(note):
    note.write({"case": "a"})
    note._memory[0] += 1  # the count is odd while it is being written
    assert note.read() is None


def test_a_write_in_progress_is_waited_for(note, monkeypatch):
    note.write({"case": "a"})
    note._memory[0] += 1

    def end_the_write(_seconds):
        note._memory[0] += 1

    monkeypatch.setattr(shared_note.time, "sleep", end_the_write)
    assert note.read() == {"case": "a"}


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no memory without a file")
def test_a_note_needs_no_folder_for_files(monkeypatch):
    monkeypatch.setattr(shared_note.tempfile, "tempdir", "/nowhere")
    note = SharedNote()
    note.write({"case": "a"})
    assert note.read() == {"case": "a"}
    note.close()


@pytest.mark.process
def test_a_process_writes_what_its_parent_reads_after_its_death(note):
    code = "import os, sys; from nameplate.base.shared_note import SharedNote as N; n = N(int(sys.argv[1]))"
    code += "; n.write({'at': 'step 3'}); os._exit(9)"
    command = [sys.executable, "-c", code, str(note.descriptor)]
    assert subprocess.run(command, pass_fds=[note.descriptor], check=False).returncode == 9
    assert note.read() == {"at": "step 3"}
