"""Benchmarks against the real stack on loopback. Every figure stands beside a floor or a peer of the same run."""
