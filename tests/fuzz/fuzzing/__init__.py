"""Fuzzers: inputs of anybody for every command, and what must hold of each (docs/reliability.md).

`__main__.py` is the long campaign (`make fuzz`); `tests/fuzz/test_fuzzing.py` its short part.
"""
