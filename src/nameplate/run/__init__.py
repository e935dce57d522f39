"""One run: its cases measured device by device, each device in a process of its own."""
