"""Faults done to real runs on the CPU: killed, stopped, starved (docs/reliability.md).

`__main__.py` is the campaign (`make faults`); `tests/faults/test_faulting.py` does one of each kind.
"""
