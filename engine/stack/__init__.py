"""Runs everything the engine needs on one machine: servers and processes. It must not know what they trade."""
