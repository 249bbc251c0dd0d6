"""The simulation: the real domain, pipeline, sweeper, listener and recovery in one process, against a simulated world.

A seed picks every interleaving, fault and loss; a failure replays exactly from its seed.
"""
