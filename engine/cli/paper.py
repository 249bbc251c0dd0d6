"""`engine paper`: the paper broker alone, for whoever writes against Kite Connect."""

from collections.abc import Sequence

from broker_connector.paper.__main__ import main

#: What a broker that stands alone adds: an index to look at, and no limits, since a client in a test never waits.
ALONE = ("--index", "--rate-limits", "none")


def run(words: Sequence[str]) -> None:
    """Serve until told to stop; `words` are its options."""
    main([*ALONE, *words], "engine paper")
