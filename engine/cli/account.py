"""`engine account`: whose accounts the engine trades on, and their logins. Secrets come by standard input or a file."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from broker_connector.registry import BROKERS, Credentials, Entry, connect
from engine.cli import DONE
from engine.cli.deployment import Deployment, find
from engine.cli.output import errors, print_rows
from engine.cli.rows import Row
from engine.domain.broker import BrokerUnreachable, TokenInvalid
from engine.domain.health import line_of
from engine.ports import StoreClosed
from engine.runtime.codec import to_us
from engine.stack.problems import EnvironmentProblem
from models import secrets
from models.repositories.accounts import Account, AccountExists, Accounts, LoginStored
from models.tables import AccountState

SHOWN = ("tenant", "name", "broker", "state", "token_ends", "base_url", "rates")
#: `line`: how its broker answers; empty where the live state cannot be asked.
LISTED = (*SHOWN[:5], "line", *SHOWN[5:])
#: What an account may log in with: whether it must be there.
SECRETS: Mapping[str, bool] = {"api_key": True, "api_secret": False, "access_token": False}
#: The file that stands for standard input.
STDIN = Path("-")
#: The most that is read of it, characters.
LONGEST = 10_000


def add(tenant: str, name: str, broker: str, urls: tuple[str, str], source: Path, *, as_json: bool) -> int:
    """Store an account; `urls`: of its interface and its ticker, "" for the broker's own."""
    entry, engine = _entry(broker), find()
    base_url, ws_url = urls[0] or entry.base_url, urls[1] or entry.ws_url
    for option, url, kinds in (("--url", base_url, ("http", "https")), ("--ws-url", ws_url, ("ws", "wss"))):
        if url.partition("://")[0] not in kinds:
            raise EnvironmentProblem(f"{option}: {broker} needs one that begins with {' or '.join(kinds)}://")
    account = Account(tenant, name, broker, base_url, ws_url, secrets.Credentials(), state=AccountState.TOKEN_DEAD)
    account = _with_login(account, entry, _secrets(_read(source), str(source)))
    try:
        Accounts(engine.sessions).add(account)
    except AccountExists as error:
        raise EnvironmentProblem(f"{error}; `engine account login` gives it a new token") from None
    except LoginStored as error:
        raise EnvironmentProblem(f"{tenant}/{name}: {error}; nothing was stored") from None
    if account.state is AccountState.TOKEN_DEAD:
        errors.print(f"{tenant}/{name} has no access token yet: `engine account login {tenant} {name}`", markup=False)
    return _tell([account], as_json=as_json)


def _with_login(account: Account, entry: Entry, told: Mapping[str, str]) -> Account:
    """`account` with what it logs in with, but a token its broker does not confirm: nobody knows whose that is."""
    values = dict(told)
    if values["access_token"]:
        try:
            user = _proven(entry, account, values)
            issued_at, ready = datetime.now(UTC), AccountState.READY
            credentials = secrets.Credentials(values)
            return replace(account, credentials=credentials, state=ready, token_issued_at=issued_at, broker_user=user)
        except (TokenInvalid, BrokerUnreachable) as error:
            errors.print(f"{account.broker} did not take the access token, it is not stored: {error}", markup=False)
    return replace(account, credentials=secrets.Credentials(values | {"access_token": ""}))


def _proven(entry: Entry, account: Account, values: Mapping[str, str]) -> str:
    """Whose login `values` are, as the broker says. Raises TokenInvalid, BrokerUnreachable."""
    broker = connect(account.broker, account.base_url, Credentials(values["api_key"], values["access_token"]))
    try:
        user = broker.account_id()
    finally:
        broker.close()
    # A broker without an address of its own, as the paper broker is, is another one at each.
    return user if entry.base_url else f"{user} at {account.base_url.rstrip('/')}"


def show_all(tenant: str | None, *, as_json: bool) -> int:
    """List the accounts; nothing secret is shown."""
    engine = find()
    accounts = Accounts(engine.sessions).list(tenant)
    lines = _lines(engine, accounts)
    rows = [_row(account, as_json) | {"line": lines.get(account.id)} for account in accounts]
    print_rows("Accounts", rows, LISTED, as_json=as_json)
    return DONE


def _lines(engine: Deployment, accounts: Iterable[Account]) -> Mapping[int, str]:
    """How each account's broker answers, as the workers found."""
    try:
        remote = engine.remote()
        known = {account.id: remote.store.account(account.id) for account in accounts}
        now = to_us(remote.real.now())
        return {
            number: line_of(remote.store.health(number), live.version, now)
            for number, live in known.items()
            if live is not None
        }
    except (EnvironmentProblem, StoreClosed):
        return {}


def login(tenant: str, name: str, source: Path, *, is_access_token: bool, as_json: bool) -> int:
    """Give an account the day's token: what `source` holds is the broker's request token, or the access token."""
    engine = find()
    accounts = Accounts(engine.sessions)
    account = accounts.named(tenant, name)
    if account is None:
        known = ", ".join(f"{each.tenant}/{each.name}" for each in accounts.list()) or "none"
        raise EnvironmentProblem(f"NAME: {tenant} has no account {name!r}; there are: {known}")
    token, entry, values = _read(source).strip(), _entry(account.broker), dict(account.credentials.values)
    if not token or not token.isprintable():
        raise EnvironmentProblem(f"{source}: expected one line with a token")
    try:
        values["access_token"] = token if is_access_token else _exchanged(entry, account, token)
        user = _proven(entry, account, values)
        accounts.renew(account.id, secrets.Credentials(values), datetime.now(UTC), user)
    except LoginStored as error:
        raise EnvironmentProblem(f"{tenant}/{name}: {error}; nothing was changed") from None
    except (TokenInvalid, BrokerUnreachable) as error:
        raise EnvironmentProblem(
            f"{tenant}/{name}: {account.broker} did not take it, nothing was changed: {error}"
        ) from None
    return _tell([each for each in [accounts.get(account.id)] if each], as_json=as_json)


def _exchanged(entry: Entry, account: Account, request_token: str) -> str:
    values = account.credentials.values
    if not values.get("api_secret"):
        raise EnvironmentProblem("api_secret: was not stored with the account; log in with --access-token")
    return entry.login(account.base_url, values["api_key"], values["api_secret"], request_token)


def _entry(broker: str) -> Entry:
    if broker not in BROKERS:
        raise EnvironmentProblem(f"--broker: no {broker!r}; there are: {', '.join(BROKERS)}")
    return BROKERS[broker]


def _read(source: Path) -> str:
    if source == STDIN:
        if sys.stdin.isatty():
            errors.print("reading from standard input, end with Ctrl-D", markup=False)
        return sys.stdin.read(LONGEST)
    try:
        with source.open(encoding="utf-8") as opened:
            return opened.read(LONGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentProblem(f"{source}: cannot be read: {error}") from None


def _secrets(text: str, source: str) -> dict[str, str]:
    """What an account logs in with; raises EnvironmentProblem naming the field, and shows no value."""
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise EnvironmentProblem(f'{source}: expected a JSON object like {{"api_key": "...", "api_secret": "..."}}')
    if unknown := sorted(set(told) - set(SECRETS)):
        raise EnvironmentProblem(f"{source}: {unknown[0]!r} is none of {', '.join(SECRETS)}")
    for name, must in SECRETS.items():
        value = told.get(name, "")
        if not isinstance(value, str) or not value.isprintable() or (must and not value):
            raise EnvironmentProblem(f"{source}: {name}: expected a text")
    return {name: told.get(name, "") for name in SECRETS}


def _tell(accounts: list[Account], *, as_json: bool) -> int:
    print_rows("Accounts", [_row(account, as_json) for account in accounts], SHOWN, as_json=as_json)
    return DONE


def _row(account: Account, as_json: bool) -> Row:
    """What may be shown of an account: never its credentials."""
    rates = dict(account.rates) if as_json else ", ".join(f"{most} a {name}" for name, most in account.rates.items())
    entry = BROKERS.get(account.broker)
    ends = entry.profile.token_ends(account.token_issued_at) if entry else None
    told = {"rates": rates, "token_ends": ends.isoformat() if ends else None}
    return {name: getattr(account, name) for name in SHOWN if name not in told} | told
