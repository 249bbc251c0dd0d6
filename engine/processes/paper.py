"""The paper broker as a process of the stack; PAPER_OPTIONS holds its command line (see --help of the paper broker)."""

import os
import shlex

from broker_connector.paper.__main__ import main as serve_paper


def main() -> None:
    """Serve until told to stop."""
    serve_paper(shlex.split(os.environ.get("PAPER_OPTIONS", "")), "PAPER_OPTIONS")
