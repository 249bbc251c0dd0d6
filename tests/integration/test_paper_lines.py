"""How many ticker connections and instruments the paper broker gives an API key: as many as the real one."""

import asyncio
import json
from contextlib import ExitStack

import pytest
from websockets.asyncio.client import connect as open_async
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from broker_connector.paper.hub import CONNECTIONS, INSTRUMENTS
from broker_connector.paper.process import paper_broker
from broker_connector.ticker import decode
from tests.processes import eventually

OPTIONS = ("--market", "manual", "--always-open", "--rate-limits", "none")
INFY_TOKEN = 408065


def test_an_api_key_opens_three_connections_and_a_fourth_is_refused() -> None:
    with paper_broker(*OPTIONS) as paper, ExitStack() as stack:
        url = f"{paper.ws_url}?api_key=paper-key&access_token=paper-token"
        first, *_ = (stack.enter_context(connect(url, proxy=None)) for _ in range(CONNECTIONS))
        with pytest.raises(InvalidStatus) as refused:
            stack.enter_context(connect(url, proxy=None))
        assert refused.value.response.status_code == 429
        # Another key has three of its own, and one that is given up is free again.
        paper.add_account(account_id="acme", api_key="acme", access_token="token", limits={})
        stack.enter_context(connect(f"{paper.ws_url}?api_key=acme&access_token=token", proxy=None))
        first.close()
        assert eventually(lambda: paper.health()["listeners"] == CONNECTIONS)
        stack.enter_context(connect(url, proxy=None))


def test_many_at_once_get_no_more_connections_than_there_are() -> None:
    async def scenario(url: str) -> list[object]:
        opened = await asyncio.gather(*(open_async(url, proxy=None) for _ in range(12)), return_exceptions=True)
        for each in opened:
            if not isinstance(each, BaseException):
                await each.close()
        return [each for each in opened if not isinstance(each, BaseException)]

    with paper_broker(*OPTIONS) as paper:
        got = asyncio.run(scenario(f"{paper.ws_url}?api_key=paper-key&access_token=paper-token"))
        assert len(got) == CONNECTIONS


def test_a_connection_carries_three_thousand_instruments_and_says_when_it_is_full() -> None:
    with paper_broker(*OPTIONS) as paper:
        url = f"{paper.ws_url}?api_key=paper-key&access_token=paper-token"
        with connect(url, proxy=None) as line:
            others = [token << 8 | 1 for token in range(100_000, 100_000 + INSTRUMENTS)]
            line.send(json.dumps({"a": "subscribe", "v": others}))
            line.send(json.dumps({"a": "mode", "v": ["full", [INFY_TOKEN]]}))
            texts = (json.loads(text) for text in line if isinstance(text, str))
            assert next(texts)["type"] == "error"
            # What does not fit is not sent; with room again, it is.
            line.send(json.dumps({"a": "unsubscribe", "v": others[:1]}))
            line.send(json.dumps({"a": "mode", "v": ["full", [INFY_TOKEN]]}))
            assert any(decode(frame).packets for frame in line if isinstance(frame, bytes))
