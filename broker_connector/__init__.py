"""Connectors to trading brokers, and the paper broker."""
