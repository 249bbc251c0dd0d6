"""The campaign: every row of the table once, then rows by chance, on one running stack; and what came of it."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

from broker_connector.kite_words import IST
from broker_connector.paper.symbols import OPENING_UNITS
from broker_connector.registry import Credentials, connect
from engine import bootstrap
from engine.chaos import worlds
from engine.chaos.fault import Fault, Scope, Sharing, When
from engine.chaos.faults import TABLE
from engine.chaos.field import Field
from engine.chaos.judge import BY_HAND, by_hand, by_run, shorts
from engine.chaos.tap import Orders
from engine.chaos.trial import TIMES, Style, Trial, draft_of, finding_of, on_grid
from engine.chaos.wave import Placed, Wave
from engine.config import CalendarKind
from engine.domain.orders import Product
from engine.domain.run import Position, RunId
from engine.runtime import keys
from engine.trading import Market, TradingStack
from models.repositories.runs import Runs
from models.repositories.strategies import Strategies

#: The paper broker's own account, for looking only.
VISITOR = Credentials("paper-key", "paper-token")
BYSTANDER = "bystander"
SYMBOLS = tuple(f"NSE:{name}" for name in sorted(OPENING_UNITS))
#: Seconds from the storing of a wave's strategies to its first buy: longer than a timer that is published at once.
LEAD = 4.0
#: Account faults that share a wave at most.
AT_ONCE = 40
#: How long processes may take to be well again between two waves, seconds.
WELL_WITHIN = 60.0
#: How long after the last wave the history may still lack a sale, seconds.
RECORDED_WITHIN = 30.0
#: Nothing is planned across the exchange's midnight, seconds.
LONGEST_WAVE = 400.0


def market(seed: int) -> Market:
    """The synthetic market of a campaign, open around the clock."""
    return Market(f"--market synthetic --always-open --seed {seed} --step 5", calendar=CalendarKind.ALWAYS_OPEN)


@dataclass
class Campaign:
    """Trials on one started stack. `say` hears how far it is."""

    stack: TradingStack
    kill_points: Path
    seed: int
    say: Callable[[str], None] = lambda _line: None
    trials: list[Trial] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    is_interrupted: bool = False

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)  # noqa: S311 - a choice of trials, not a secret
        self._numbers = count(1)
        self._orders = Orders(self.kill_points)
        self._remote = bootstrap.remote(self.stack.settings, _no_log)
        self._real = self._remote.real
        self._played_at = 0.0

    def run(self, rows: Sequence[Fault], trials: int | None) -> None:
        """Try each of `rows` once, then rows by chance until there were so many trials; None for each row only.

        Fewer trials than rows leave rows out; what never struck is tried once more. Ctrl-C leaves the wave in the
        air out, and judges the others.
        """
        self.stack.add_account(BYSTANDER)
        self.stack.wait_ready()
        try:
            self._run(rows, trials)
        except KeyboardInterrupt:
            self.is_interrupted = True
        self._judge_at_last()

    def _run(self, rows: Sequence[Fault], trials: int | None) -> None:
        wanted = trials or 0
        for chosen in self._pass(rows):
            self._play(chosen, trials)
            if 0 < wanted < len(rows) and len(self.judged) >= wanted:
                return
        # What found nothing to strike finds it perhaps now: beat waits for the lock of one that died before it.
        struck = {trial.fault for trial in self.judged}
        for chosen in self._pass([row for row in rows if row.name not in struck]):
            self._play(chosen, trials)
        while len(self.judged) < wanted:
            before = len(self.judged)
            for chosen in self._pass(rows):
                self._play(chosen, trials)
                if len(self.judged) >= wanted:
                    return
            if len(self.judged) == before:
                return

    @property
    def judged(self) -> list[Trial]:
        """The trials whose fault has struck."""
        return [trial for trial in self.trials if not trial.is_bystander and trial.struck]

    def _pass(self, rows: Sequence[Fault]) -> list[list[Fault]]:
        """Each of `rows` once, in waves of chance order: a system's fault alone, accounts' beside each other."""
        shuffled = self._draw.sample(rows, len(rows))
        alone = [[row] for row in shuffled if row.scope is Scope.SYSTEM]
        shared = [row for row in shuffled if row.scope is Scope.ACCOUNT]
        together = [shared[start : start + AT_ONCE] for start in range(0, len(shared), AT_ONCE)]
        return self._draw.sample([*alone, *together], len(alone) + len(together))

    def _play(self, faults: Sequence[Fault], wanted: int | None) -> None:
        self._played_at = self._real.now().timestamp()
        wave = self._prepare(faults)
        names = ", ".join(fault.name for fault in faults[:1]) + (" and others" if len(faults) > 1 else "")

        def told() -> None:
            over = sum(trial.mono_done is not None for trial in wave.trials)
            of = f" of {wanted}" if wanted and len(self.judged) <= wanted else ""
            self.say(f"{len(self.judged)}{of} trials; {names}: {over} of {len(wave.trials)} over")

        wave.run(told)
        self.trials += wave.trials
        for trial in wave.trials:
            for violation in trial.violations:
                self.say(f"violated {len(self.trials)}: {trial.fault} ({trial.style}), run {trial.run}: {violation}")
        for placed in wave.placed:
            self.remarks += [f"{placed.fault.name}: {remark}" for remark in placed.field.remarks]
        self._await_well([name for placed in wave.placed for name in placed.field.killed])

    def _prepare(self, faults: Sequence[Fault]) -> Wave:
        number, prices = next(self._numbers), self._prices()
        plans = [(fault, style) for fault in faults for style in fault.styles]
        shared = len(faults) == 1 and faults[0].sharing is not Sharing.NOTHING
        tenants = [f"tenant-{1 if shared else n:02d}" for n in range(1, len(plans) + 1)]
        for tenant in dict.fromkeys(tenants):
            self.stack.add_account(tenant)
        lead = LEAD + (len(plans) > len(SYMBOLS)) + max(fault.ahead for fault in faults)
        wave = Wave([], self._clear_of_midnight() + timedelta(seconds=lead), self._real.now())
        early = [fault for fault in faults if fault.whens == (When.START,)]
        placed = {fault.name: self._place(fault, wave) for fault in faults}
        for fault in early:
            # It concerns no run in particular: it waits for whoever stores and arms them.
            if fault.name.startswith("kill"):
                wave.begin(placed[fault.name])
        has_bystander = faults[0].scope is Scope.ACCOUNT or faults[0].bystander
        specs: list[tuple[Fault | None, Style]] = [*plans, *([(None, Style.SCHEDULE)] if has_bystander else [])]
        for (owner, _), trial in zip(specs, self._store(number, wave.buys, specs, tenants, prices), strict=True):
            if owner is None:
                wave.bystanders.append(trial)
                continue
            placed[owner.name].trials.append(trial)
            if owner.led_by is not None:
                self.stack.paper.fault(account=trial.tenant, **owner.led_by)
        if faults[0].sharing is Sharing.POSITION:
            runs = [trial.run for trial in placed[faults[0].name].trials]
            for trial in placed[faults[0].name].trials:
                trial.partners = [run for run in runs if run != trial.run]
        return wave

    def _place(self, fault: Fault, wave: Wave) -> Placed:
        surroundings = Field(self.stack, self._orders, self._remote, [], lambda: wave.pending)
        placed = Placed(fault, self._draw.choice(fault.whens), surroundings)
        wave.placed.append(placed)
        return placed

    def _store(
        self,
        number: int,
        buys: datetime,
        specs: Sequence[tuple[Fault | None, Style]],
        tenants: Sequence[str],
        prices: dict[str, Decimal],
    ) -> list[Trial]:
        drafts = []
        for index, (fault, style) in enumerate(specs):
            tenant = tenants[index] if fault is not None else BYSTANDER
            one_symbol = fault is not None and fault.sharing is Sharing.POSITION
            symbol = SYMBOLS[(number + (0 if one_symbol else index)) % len(SYMBOLS)]
            hold, product = (fault.hold, fault.product) if fault is not None else (0.0, Product.INTRADAY)
            name = f"wave-{number}-{index}"
            drafts.append(draft_of(style, tenant, symbol, prices[symbol], buys, hold, name, product))
        stored = Strategies(self.stack.sessions).add(drafts)
        return [
            Trial(
                fault=fault.name if fault is not None else BYSTANDER,
                style=style,
                tenant=draft.tenant,
                symbol=draft.symbol,
                buy_at=buys + timedelta(seconds=TIMES[style][0]),
                exit_at=buys + timedelta(seconds=TIMES[style][1] + (fault.hold if fault is not None else 0.0)),
                stop=draft.stop_loss,
                run=RunId(strategy.id, buys.astimezone(IST).date()),
                is_bystander=fault is None,
                calm=on_grid(prices[draft.symbol]),
                to_hear=fault.told if fault is not None else frozenset(),
            )
            for (fault, style), draft, strategy in zip(specs, drafts, stored, strict=True)
        ]

    def _prices(self) -> dict[str, Decimal]:
        visitor = connect("paper", self.stack.paper.base_url, VISITOR)
        try:
            return {quote.symbol: quote.last_price for quote in visitor.quote(SYMBOLS)}
        finally:
            visitor.close()

    def _clear_of_midnight(self) -> datetime:
        """Now, on a whole second; a strategy's times are of one date."""
        while True:
            now = self._real.now().replace(microsecond=0) + timedelta(seconds=1)
            if now.astimezone(IST).date() == (now + timedelta(seconds=LONGEST_WAVE)).astimezone(IST).date():
                return now
            self.say("waiting for midnight at the exchange to pass")
            time.sleep(1.0)

    def _await_well(self, killed: Sequence[str]) -> None:
        """Let every process be back before the next wave."""
        deadline = time.monotonic() + WELL_WITHIN
        while time.monotonic() < deadline:
            running = all(state == "RUNNING" for state, _ in self.stack.states().values())
            if running and self._are_ready(killed):
                return
            time.sleep(0.1)

    def _are_ready(self, killed: Sequence[str]) -> bool:
        """Whether each has shown a sign of life since it was struck."""
        signs = (self.stack.redis.get(keys.process(name.removeprefix("worker-"))) for name in killed)
        return all(isinstance(sign, str) and float(sign) > self._played_at for sign in signs)

    def _judge_at_last(self) -> None:
        """Every run once more, on everything the broker has seen since; and no order of nobody's."""
        ledger, deployment = self.stack.paper.ledger(), self.stack.settings.deployment
        found, hand, short = by_run(ledger, deployment), by_hand(ledger), shorts(ledger, deployment)
        for trial in self.trials:
            trial.finding = finding_of(trial, found, hand)
            trial.violations += trial.finding.violations
            if trial.run in short:
                trial.violations.append(short[trial.run])
            if trial.finding.held > 0 and trial.mono_done is not None:
                trial.violations.append(f"holds {trial.finding.held} again after it was over")
        self._judge_history()
        strangers = [row for row in found.get(None, ()) if not row["tag"].startswith(BY_HAND)]
        if strangers and self.trials:
            self.trials[-1].violations.append(f"{len(strangers)} orders under no id of ours")

    def _judge_history(self) -> None:
        """Every sale must get into the history: nothing of what a process or a server lost may be missing there."""
        untold = {trial.run: trial for trial in self.trials if trial.finding.sold == trial.finding.bought > 0}
        deadline = time.monotonic() + RECORDED_WITHIN
        while untold and time.monotonic() < deadline:
            runs = Runs(self.stack.sessions).of_strategies([run.strategy_id for run in untold])
            told = {run.id for run in runs if run.position in {Position.SOLD, Position.EXITED_BY_SL}}
            untold = {run: trial for run, trial in untold.items() if run not in told}
            time.sleep(0.5 if untold else 0.0)
        for trial in untold.values():
            trial.violations.append("its sale is not in the history")


def short_table() -> list[Fault]:
    """One row of each family: where an order was accepted and nothing committed, if it has such a row.

    Rows that need a world of their own take a wave each, ten minutes in all: only a whole campaign plays them.
    """
    families: defaultdict[str, list[Fault]] = defaultdict(list)
    for row in TABLE:
        if row not in worlds.ROWS:
            families[row.family].append(row)
    return [max(of, key=lambda row: "broker.place.after" in row.name) for of in families.values()]


def _no_log(_action: str, /, **_facts: object) -> None:
    """A campaign's own doings are told by its report."""
