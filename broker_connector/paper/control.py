"""The paper broker's control interface, under /paper/: accounts, clock, prices, faults, ledger, health.

Only from loopback, and with the control token where one is set. No part of the broker's own interface.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime, time
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker_connector.paper.clock import MarketClock, utc_now
from broker_connector.paper.errors import BrokerError
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.faults import SCRAMBLE
from broker_connector.paper.forms import ticket_of
from broker_connector.paper.hub import Hub
from broker_connector.paper.ledger import ledger
from broker_connector.paper.script import Script
from broker_connector.paper.settlement import OWNED, Share
from broker_connector.paper.symbols import EXCHANGE, SCALE, Listing

Action = Callable[[dict[str, Any]], Any]


class Control:
    """The routes; each takes a JSON object and answers one."""

    def __init__(
        self,
        exchange: Exchange,
        hub: Hub,
        script: Script,
        moved: Callable[[], None],
        reset: Callable[[], None],
        token: str,
    ) -> None:
        """`moved`: called when something was changed. `reset`: forgets orders and faults. `token`: "" for none."""
        self._exchange, self._hub, self._script, self._moved = exchange, hub, script, moved
        self._forget = reset
        self._token = token

    def routes(self) -> list[Route]:
        """The route table."""
        return [
            self._route("/paper/health", "GET", self._health),
            self._route("/paper/ledger", "GET", self._ledger),
            self._route("/paper/accounts", "POST", self._add_account),
            self._route("/paper/clock", "POST", self._set_clock),
            self._route("/paper/book", "POST", self._change_settings),
            self._route("/paper/price", "POST", self._price),
            self._route("/paper/night", "POST", self._night),
            self._route("/paper/holdings", "POST", self._hold),
            self._route("/paper/trade", "POST", self._trade),
            self._route("/paper/idle", "POST", self._idle),
            self._route("/paper/relist", "POST", self._relist),
            self._route("/paper/faults", "POST", self._add_fault),
            self._route("/paper/faults", "GET", self._faults),
            self._route("/paper/faults/clear", "POST", self._clear_faults),
            self._route("/paper/disconnect", "POST", self._disconnect),
            self._route("/paper/reset", "POST", self._reset),
        ]

    def _route(self, path: str, method: str, action: Action) -> Route:
        async def endpoint(request: Request) -> Response:
            if not self._is_allowed(request):
                return JSONResponse({"error": "forbidden"}, HTTPStatus.FORBIDDEN)
            try:
                body = await request.json() if method == "POST" and await request.body() else {}
                answer = action(body)
            except (KeyError, TypeError, ValueError, InvalidOperation) as error:
                message = f"{type(error).__name__}: {error}"
                return JSONResponse({"error": message}, HTTPStatus.BAD_REQUEST)
            self._moved()
            return JSONResponse(answer)

        handler: Callable[[Request], Awaitable[Response]] = endpoint
        return Route(path, handler, methods=[method])

    def _is_allowed(self, request: Request) -> bool:
        if request.client is None or not ip_address(request.client.host).is_loopback:
            return False
        given = request.headers.get("X-Paper-Token", "")
        return not self._token or secrets.compare_digest(given, self._token)

    def _health(self, _body: dict[str, Any]) -> Any:
        return {"ready": True, "listeners": len(self._hub.listeners), **self._exchange.progress(utc_now())}

    def _ledger(self, _body: dict[str, Any]) -> Any:
        return ledger(self._exchange.accounts.by_id.values())

    def _add_account(self, body: dict[str, Any]) -> Any:
        account = self._exchange.add_account(
            body["account_id"], body["api_key"], body["access_token"], body.get("api_secret", ""), body.get("limits")
        )
        return {"account_id": account.account_id}

    def _set_clock(self, body: dict[str, Any]) -> Any:
        real, market = (_aware(body[name]) for name in ("real_anchor", "market_anchor"))
        speed = float(body.get("speed", 1.0))
        if speed <= 0:
            raise ValueError("speed must be positive")
        self._exchange.set_clock(MarketClock(real, market, speed))
        return self._exchange.progress(utc_now())

    def _change_settings(self, body: dict[str, Any]) -> Any:
        times = {name: time.fromisoformat(body[name]) for name in ("opens", "closes") if name in body}
        settings = asdict(self._exchange.change_settings(body | times))
        return {name: str(value) if isinstance(value, time) else value for name, value in settings.items()}

    def _price(self, body: dict[str, Any]) -> Any:
        listing = self._listing(body["symbol"])
        units = int(Decimal(str(body["price"])) * SCALE)
        if units <= 0:
            raise ValueError("price must be positive")
        self._hub.ticks([self._exchange.price(listing, units, utc_now())])
        return {"symbol": listing.key, "token": listing.token}

    def _night(self, body: dict[str, Any]) -> Any:
        self._exchange.night(self._exchange.now(utc_now()), int(body.get("days", 1)))
        return {}

    def _hold(self, body: dict[str, Any]) -> Any:
        account, listing = self._exchange.accounts.by_id[body["account"]], self._listing(body["symbol"])
        settled, t1, authorised = (int(body.get(name, 0)) for name in ("settled", "t1", "authorised"))
        price = Decimal(str(body.get("average_price", 0)))
        share = Share(listing.token, listing.name, EXCHANGE, OWNED, settled, t1, price, authorised)
        others = [each for each in account.shares if (each.token, each.product) != (share.token, OWNED)]
        account.shares = [*others, share] if share.units else others
        return {"settled": share.settled, "t1": share.t1}

    def _trade(self, body: dict[str, Any]) -> Any:
        """What the owner does by hand, or another engine: an order of the account that no client of ours placed."""
        account, now = self._exchange.accounts.by_id[body["account"]], self._exchange.now(utc_now())
        exchange, _, symbol = body["symbol"].rpartition(":")
        form = {
            "exchange": exchange or EXCHANGE,
            "tradingsymbol": symbol,
            "transaction_type": body["side"].upper(),
            "quantity": str(body["quantity"]),
            "product": body.get("product", "MIS"),
            "order_type": "LIMIT" if "price" in body else "MARKET",
            "price": str(body.get("price", "")),
            "validity": "DAY",
            "tag": body.get("tag", ""),
        }
        try:
            order = account.book.place(ticket_of("regular", form, self._exchange.by_name, protected=False), now)
        except BrokerError as error:
            raise ValueError(error.message) from error
        return {"order_id": order.order_id, "status": order.status}

    def _idle(self, body: dict[str, Any]) -> Any:
        listing, seconds = self._listing(body["symbol"]), int(body["seconds"])
        if seconds < 0:
            raise ValueError("seconds must not be negative")
        self._exchange.idle(listing, seconds)
        return {"symbol": listing.key, "seconds": seconds}

    def _relist(self, body: dict[str, Any]) -> Any:
        listing = self._exchange.relist(self._listing(body["symbol"]), body.get("name"), body.get("token"))
        return {"symbol": listing.key, "token": listing.token}

    def _listing(self, symbol: str) -> Listing:
        return self._exchange.by_name[symbol.rpartition(":")[2]]

    def _add_fault(self, body: dict[str, Any]) -> Any:
        return self._script.add(body).told()

    def _faults(self, _body: dict[str, Any]) -> Any:
        scrambled = [{"kind": SCRAMBLE, "account": account} for account in self._hub.scrambled]
        return [*(fault.told() for fault in self._script.faults), *scrambled]

    def _clear_faults(self, _body: dict[str, Any]) -> Any:
        self._script.faults.clear()
        return {}

    def _disconnect(self, body: dict[str, Any]) -> Any:
        self._hub.cut(body.get("account", ""))
        return {}

    def _reset(self, _body: dict[str, Any]) -> Any:
        self._forget()
        return {}


def _aware(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"a time needs its zone: {text}")
    return instant
