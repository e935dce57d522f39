"""Devices: what can be timed, and what each is. `find` opens them; `interface` is what the engine sees."""
