"""Reads what the firmware says of a machine: its maker and product, its processor, whether it is virtual.

On x86 DMI's tables (SMBIOS) are in /sys/class/dmi; on Arm servers too, and other Arm machines have a device
tree. In a container both may be missing. Nothing here raises for what isn't there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nameplate.device.system_files import read_line

_ROOT = Path("/")
_DMI = "sys/class/dmi/id"
_DMI_FIELDS = (
    *("sys_vendor", "product_name", "product_family", "product_version", "product_sku"),
    *("board_vendor", "board_name", "chassis_vendor", "chassis_asset_tag", "bios_vendor"),
)
_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
_TABLES = "sys/firmware/dmi/tables/DMI"  # readable by root alone
_PROCESSOR = 4  # the type of SMBIOS structures that describe processors (DSP0134, 7.5)
_VERSION = 0x10  # where such a structure has the number of the text with the processor's name
# Texts that a maker left unfilled.
_EMPTY = re.compile(
    r"^(?:|none|n/?a|unknown|default string|not (?:specified|available)|to be filled.*)$", re.I
)
# Who makes virtual machines only, and what makers of both call theirs (systemd's virt.c has the same).
_VIRTUAL_MAKERS = ("qemu", "kvm", "xen", "vmware", "innotek", "virtualbox", "parallels", "bochs", "bhyve")
_VIRTUAL_CLOUDS = ("amazon ec2", "alibaba cloud")
_VIRTUAL_PRODUCTS = (
    "virtual machine",
    "google compute engine",
    "openstack",
    "kubevirt",
    "apple virtualization",
)


def read_product(root: Path = _ROOT) -> str | None:
    """Return the machine's maker and product, or its device tree's model; None where neither is told."""
    said = dict(_read_dmi(root))
    named = [said[name] for name in ("sys_vendor", "product_name") if name in said]
    if named:
        return " ".join(dict.fromkeys(named))
    return next((model for tree in _TREES if (model := read_line(root / tree / "model"))), None)


def read_texts(root: Path = _ROOT) -> tuple[str, ...]:
    """Return everything that may tell who made the machine or its chip: DMI, device tree, SoC id."""
    chips = (read_line(path) for path in sorted((root / "sys/bus/soc/devices").glob("soc*/soc_id")))
    models = (read_line(root / tree / "model") for tree in _TREES)
    found = [text for _, text in _read_dmi(root)] + [text for text in (*models, *chips) if text]
    return tuple(dict.fromkeys(found))


def _read_dmi(root: Path) -> Iterator[tuple[str, str]]:
    for name in _DMI_FIELDS:
        text = read_line(root / _DMI / name)
        if text and not _EMPTY.match(text):
            yield name, text


def read_processor_name(root: Path = _ROOT) -> str | None:
    """Return the processor's name in SMBIOS's tables; None without one, or without the right to read them."""
    try:
        tables = (root / _TABLES).read_bytes()
    except OSError:
        return None
    for kind, body, texts in _split_structures(tables):
        if kind == _PROCESSOR and len(body) > _VERSION and 0 < body[_VERSION] <= len(texts):
            name = texts[body[_VERSION] - 1].strip()
            if not _EMPTY.match(name):
                return name
    return None


def _split_structures(tables: bytes) -> Iterator[tuple[int, bytes, list[str]]]:
    """Yield type, formatted part and texts of each SMBIOS structure: texts end in a zero, the last in two."""
    at = 0
    while at + 4 <= len(tables):
        kind, length = tables[at], tables[at + 1]
        end = tables.find(b"\0\0", at + length)
        if length < 4 or end < 0:
            return
        texts = tables[at + length : end].decode("latin-1").split("\0")
        yield kind, tables[at : at + length], texts
        at = end + 2


def is_virtual(root: Path = _ROOT) -> bool | None:
    """Return whether the firmware tells of a virtual machine; None where nothing tells.

    A rented machine without a hypervisor is told by its product's name, as Amazon's `.metal`.
    """
    if any((root / tree / "hypervisor").exists() for tree in _TREES):
        return True
    if (read_line(root / "sys/hypervisor/type") or "") == "xen":
        return True
    said = {name: text.casefold() for name, text in _read_dmi(root)}
    product, maker = said.get("product_name", ""), said.get("sys_vendor", "")
    if product.endswith((".metal", "-metal")) or ".metal-" in product:
        return False
    if maker.startswith(_VIRTUAL_MAKERS) or any(each in product for each in _VIRTUAL_PRODUCTS):
        return True
    return True if maker in _VIRTUAL_CLOUDS else None
