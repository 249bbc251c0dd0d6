"""The engine's HTTP interface: today what brokers post to it."""
