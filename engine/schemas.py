"""Writes the JSON Schemas of the files people exchange with the engine: `python -m engine.schemas`."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from engine.reports import ReplayReport, write_atomically
from engine.strategies import StrategyFile, StrategyItem

#: Where they are committed.
DOCS = Path(__file__).parent.parent / "docs"

_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def schemas() -> dict[str, str]:
    """File name -> its text."""
    strategies = TypeAdapter[Any](list[StrategyItem] | StrategyFile).json_schema()
    report = ReplayReport.model_json_schema(mode="serialization")
    return {
        "strategies.schema.json": _text({"title": "Strategies file", **strategies}),
        "replay-report.schema.json": _text(report),
    }


def main() -> None:
    """Write every schema anew."""
    for name, text in schemas().items():
        write_atomically(DOCS / name, text)


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(_DIALECT | schema, indent=2) + "\n"


if __name__ == "__main__":
    main()
