"""What tests of NVML's process share."""

import psutil
import pytest

from nvml_clients import list_workers


@pytest.fixture
def no_process_left():
    """Leave nothing behind: neither a process nor the exit status of one (a zombie)."""
    before = list_workers(psutil.Process())
    yield
    assert [one for one in list_workers(psutil.Process()) if one not in before] == []
