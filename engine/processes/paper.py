"""The paper broker as a process of the stack; PAPER_OPTIONS holds its command line (see --help of the paper broker)."""

import os
import shlex
import sys

from broker_connector.paper.__main__ import main as serve_paper


def main() -> None:
    """Serve until told to stop."""
    sys.argv = ["paper", *shlex.split(os.environ.get("PAPER_OPTIONS", ""))]
    serve_paper()
