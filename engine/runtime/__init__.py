"""The live state in Redis: its keys, its scripts, and the only code that reads or writes them."""
