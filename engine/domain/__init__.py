"""The pure domain: standard library only, no I/O, and `now` is always an argument."""
