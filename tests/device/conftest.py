"""What the tests of devices share."""

from __future__ import annotations

import pytest

from cuda_stand_in import Gpu
from nameplate.device import cuda


@pytest.fixture
def gpu(monkeypatch):
    stand_in = Gpu()
    monkeypatch.setattr(cuda.time, "perf_counter", lambda: stand_in.now_s)
    return stand_in
