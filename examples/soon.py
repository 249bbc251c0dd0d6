"""Prints a strategies file whose trades are a moment ahead, for `engine up --market synthetic`.

.venv/bin/python examples/soon.py | .venv/bin/engine strategy add
"""

import json
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

#: How far ahead the buy and the sell are.
BUY_IN, SELL_IN = timedelta(seconds=20), timedelta(seconds=80)


def main() -> None:
    """Print the file."""
    now = datetime.now(ZoneInfo("Asia/Kolkata"))
    strategy = {
        "name": f"first-{now:%H%M%S}",
        "tenant": "demo",
        "symbol": "INFY",
        "quantity": 10,
        "buy_time": f"{now + BUY_IN:%H:%M:%S}",
        "sell_time": f"{now + SELL_IN:%H:%M:%S}",
        # Far below any price of the synthetic market: this one is sold by its time.
        "stop_loss": "1000.00",
    }
    print(json.dumps([strategy], indent=2))


if __name__ == "__main__":
    main()
