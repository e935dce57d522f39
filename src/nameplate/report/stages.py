"""The stages of a chain as people say them."""

from __future__ import annotations

from nameplate.base.language import _
from nameplate.chain.stage import Stage


def stage_words(stage: Stage) -> str:
    """What a stage is called where a person reads it."""
    return _(stage.label)


def slowest_words(reaching: int, devices: int) -> str:
    """What the slowest device of a run is, of so many that reach as far as it does and so many in all."""
    if reaching == devices:
        return _("the slowest of {count} devices", count=devices)
    if reaching == 1:
        return _("the only one of {count} devices that reaches this far", count=devices)
    return _(
        "the slowest of the {reaching} of {count} devices that reach this far",
        reaching=reaching,
        count=devices,
    )
