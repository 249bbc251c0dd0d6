"""Fault trials on the running stack: where a process can be struck, what strikes it, and who judges the outcome."""
