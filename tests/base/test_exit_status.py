"""Signals that ask a process to end: raised once, and held back while it cleans up."""

from __future__ import annotations

import os
import signal

import pytest

from nameplate.base import exit_status
from nameplate.base.exit_status import Terminated, raise_on_signals, signals_held


def test_a_terminal_that_is_closed_sends_two_signals_and_both_are_one_end():
    cleaned = []

    def end():
        with raise_on_signals():
            try:
                os.kill(os.getpid(), signal.SIGHUP)
            finally:
                os.kill(os.getpid(), signal.SIGHUP)
                os.kill(os.getpid(), signal.SIGTERM)
                cleaned.append("up")

    with pytest.raises(Terminated) as ended:
        end()
    assert (ended.value.exit_status, cleaned) == (129, ["up"])


def test_who_asks_again_later_is_not_held_up(monkeypatch):
    monkeypatch.setattr(exit_status, "_TOGETHER_S", -1.0)
    ended = []
    monkeypatch.setattr(signal, "raise_signal", ended.append)

    def end():
        with raise_on_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    with pytest.raises(Terminated):
        end()
    assert ended == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_clean_up_is_finished_before_a_signal_ends_it(number):
    done = []

    def clean_up():
        with raise_on_signals(), signals_held():
            os.kill(os.getpid(), number)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert done == ["all of it"]


def test_an_impatient_second_ctrl_c_neither_breaks_off_the_clean_up_nor_hides_the_first_error():
    def fail():
        try:
            raise OSError("the first")
        finally:
            with signals_held():
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(OSError, match="the first"):
        fail()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
