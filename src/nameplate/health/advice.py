"""What to do about a device that isn't fit, by the codes of the reasons."""

from __future__ import annotations

from nameplate.base.language import N_
from nameplate.base.messages import Message, own_text
from nameplate.health.verdict import DeviceHealth

_DRAIN = N_("Drain this device's node, and run the vendor's diagnostics on it (dcgmi diag -r 3).")
_RESET = N_("Drain this device's node, reset the GPU or restart the node, and check again.")
_COOL = N_("Look at the fans, the coolant, the airflow and the power supply; then check again.")
_ALONE = N_("Run the check again on an idle node.")
_LONGER = N_("Give the check a larger --budget.")
_AGAIN = N_(
    "Check again twice, and a healthy device beside it: a fault stays, what disturbed the check doesn't."
)
_BY_CODE = {
    "health_wrong_result": _DRAIN,
    "bits_changed": _DRAIN,
    "memory_errors": _RESET,
    "xid_errors": _RESET,
    "context_lost": _RESET,
    "context_lost_with_xid": _RESET,
    "worker_hung": _RESET,
    "worker_stuck": _RESET,
    "device_refused": _RESET,
    "device_hung": _RESET,
    "device_given_up": _RESET,
    "rows_remapped": N_(
        "Reset the GPU when it is idle; a card that remaps rows again and again is replaced."
    ),
    "nvlink_errors": N_("See nvidia-smi nvlink -e, and reseat or replace the link or the board."),
    "health_narrow_link": N_("Reseat the card or its riser, and look at the slot's lanes (lspci -vv)."),
    "health_throttled": _COOL,
    "clock_held_by_thermal": _COOL,
    "clock_held_by_software_thermal": _COOL,
    "clock_held_by_hardware_thermal": _COOL,
    "clock_held_by_power_brake": _COOL,
    "health_below_siblings": _AGAIN,
    "health_below_past": _AGAIN,
    "health_below_published": _AGAIN,
    "health_below_any": _AGAIN,
    "health_memory_below_rated": _AGAIN,
    "health_no_past": N_(
        "Check again: the device is then compared with its own earlier runs, which --results keeps."
    ),
    "health_past_scatter": _ALONE,
    "health_siblings_scatter": _ALONE,
    "health_imprecise": _LONGER,
    "health_no_figure": _ALONE,
    "health_nothing_measured": N_("See why no case was measured: bench show."),
    "health_errors_unread": N_("Let the driver answer (nvidia-smi), or run outside the container."),
    "gpu_nonsense": _RESET,
    "gpu_without_nvml": N_("Let the driver answer (nvidia-smi), or run outside the container."),
    "device_died": N_("See dmesg for what ended the process."),
}


def advise(health: DeviceHealth) -> tuple[Message, ...]:
    """Return what to do, each once, in the order of the reasons; nothing for a device that is fit."""
    if health.verdict == "fit":
        return ()
    codes = [code for reason in health.reasons for code in reason.codes]
    return tuple(
        own_text(each) for each in dict.fromkeys(_BY_CODE[code] for code in codes if code in _BY_CODE)
    )
