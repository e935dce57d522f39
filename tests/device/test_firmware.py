"""What the firmware says of a machine: its processor's name in SMBIOS's tables, and whether it is virtual."""

from __future__ import annotations

import pytest

from nameplate.device import firmware, host
from nameplate.specs.cpu_evidence import CpuEvidence

DMI = "sys/class/dmi/id/"


def tree(root, files):
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
    return root


def structure(kind, body, *texts):
    """An SMBIOS structure: header, formatted part, texts."""
    said = b"".join(text.encode() + b"\0" for text in texts) or b"\0"
    return bytes([kind, 4 + len(body), 0, 0]) + body + said + b"\0"


def processor(version, *texts):
    body = bytearray(0x2A - 4)
    body[0x10 - 4] = version
    return structure(4, bytes(body), *texts)


BIOS = structure(0, bytes(20), "a vendor", "1.0")
END = structure(127, b"")


@pytest.mark.parametrize(
    ("tables", "name"),
    [
        (BIOS + processor(2, "Ampere(R)", "Ampere(R) Altra(R) Processor Q80-30") + END, "Q80-30"),
        (processor(1, "Not Specified") + processor(1, "AWS Graviton3") + END, "AWS Graviton3"),
        (processor(0) + END, None),
        (processor(9, "one text") + END, None),
        (BIOS + END, None),
        (b"", None),
        (b"\x04\x02\x00\x00", None),
        (b"\x04\xff\x00\x00" + bytes(8), None),
        (processor(1, "cut off")[:-3], None),
    ],
)
def test_the_processor_in_smbios_tables(tmp_path, tables, name):
    found = firmware.read_processor_name(tree(tmp_path, {"sys/firmware/dmi/tables/DMI": tables}))
    assert found is None if name is None else found.endswith(name)


def test_a_name_in_the_tables_is_the_models_and_has_its_clock(tmp_path):
    tables = processor(1, "Ampere(R) Altra(R) Processor Q80-30 CPU @ 3.0GHz") + END
    cpuinfo = "CPU implementer: 0x41\nCPU part: 0xd0c"
    root = tree(tmp_path, {"sys/firmware/dmi/tables/DMI": tables, "proc/cpuinfo": cpuinfo})
    assert host.read_processor(root).name == "Ampere(R) Altra(R) Processor Q80-30 CPU @ 3.0GHz"


ARM = CpuEvidence(implementer=0x41, arm_part=0xD0C, flags=frozenset({"asimd"}))
X86 = CpuEvidence(vendor="GenuineIntel", family=6, flags=frozenset({"avx2"}))


@pytest.mark.parametrize(
    ("files", "arm", "x86"),
    [
        ({}, None, False),
        ({DMI + "sys_vendor": "QEMU", DMI + "product_name": "KVM Virtual Machine"}, True, True),
        ({DMI + "sys_vendor": "Amazon EC2", DMI + "product_name": "c7g.metal"}, False, False),
        ({DMI + "sys_vendor": "Amazon EC2", DMI + "product_name": "c7g.metal-48xl"}, False, False),
        ({DMI + "sys_vendor": "Google", DMI + "product_name": "Google Compute Engine"}, True, True),
        ({DMI + "sys_vendor": "HPE", DMI + "product_name": "ProLiant RL300 Gen11"}, None, False),
        ({DMI + "sys_vendor": "To be filled by O.E.M.", DMI + "product_name": "Default string"}, None, False),
        ({"proc/device-tree/hypervisor/compatible": "linux,kvm"}, True, True),
        ({"sys/hypervisor/type": "xen"}, True, True),
    ],
)
def test_virtual_machines_are_told_by_the_firmware_and_nothing_told_is_null(tmp_path, files, arm, x86):
    root = tree(tmp_path, files)
    assert host.detect_virtual_machine(ARM, root) is arm
    assert host.detect_virtual_machine(X86, root) is x86
    assert host.detect_virtual_machine(CpuEvidence(flags=frozenset({"hypervisor"})), root) is True
    assert host.detect_virtual_machine(CpuEvidence(), tmp_path / "nothing") is None


def test_what_a_machine_is_called(tmp_path):
    assert firmware.read_product(tmp_path) is None
    assert firmware.read_texts(tmp_path) == ()
    board = tree(tmp_path / "board", {"proc/device-tree/model": "Radxa ROCK 5B\0"})
    assert firmware.read_product(board) == "Radxa ROCK 5B"
    files = {DMI + "sys_vendor": "ACME", DMI + "product_name": "Rocket", DMI + "board_name": "None"}
    assert firmware.read_product(tree(tmp_path / "server", files)) == "ACME Rocket"
    assert firmware.read_texts(tmp_path / "server") == ("ACME", "Rocket")
