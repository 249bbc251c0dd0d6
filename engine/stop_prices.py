"""Whether the stops of strategies make sense by the prices their brokers tell now: a hint for whoever adds them.

A price that cannot be had says nothing. What is bought is decided when it is due, by the price there is then.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

from broker_connector.registry import Credentials, connect
from engine.domain.broker import BrokerUnreachable, TokenInvalid
from engine.domain.strategy import Strategy
from models.repositories.accounts import Account

#: A stop below this part of the last price is taken for a typing error.
FAR_BELOW = Decimal("0.5")


def doubt(stop: Decimal, last: Decimal) -> str:
    """What is doubtful about `stop` where the last price is `last`; "" where nothing is."""
    if last <= 0:
        return ""
    if stop >= last:
        return f"the stop {stop:f} is not below the last price {last:.2f}: at such a price nothing is bought"
    if stop < last * FAR_BELOW:
        return f"the stop {stop:f} is far below the last price {last:.2f}: is a digit missing?"
    return ""


def doubts(strategies: Sequence[Strategy], accounts: Mapping[int, Account]) -> dict[int, str]:
    """Strategy id -> what is doubtful about its stop, for those where something is."""
    groups: defaultdict[int, list[Strategy]] = defaultdict(list)
    for strategy in strategies:
        groups[strategy.account_id].append(strategy)
    found: dict[int, str] = {}
    for account_id, group in groups.items():
        account, symbols = accounts.get(account_id), sorted({each.symbol for each in group})
        prices = _prices(account, symbols) if account is not None else {}
        for each in group:
            if told := doubt(each.stop_loss, prices.get(each.symbol, Decimal(0))):
                found[each.id] = told
    return found


def _prices(account: Account, symbols: Sequence[str]) -> Mapping[str, Decimal]:
    """The last price of each symbol, as far as the account's broker tells."""
    secrets = account.credentials.values
    if "access_token" not in secrets:
        return {}
    connector = connect(account.broker, account.base_url, Credentials(secrets["api_key"], secrets["access_token"]))
    try:
        return {quote.symbol: quote.last_price for quote in connector.quote(symbols)}
    except (BrokerUnreachable, TokenInvalid):
        return {}
    finally:
        connector.close()
