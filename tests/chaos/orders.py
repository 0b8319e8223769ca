"""Brackets from signal to flat, one after another on one engine, one death in each life; the books equal after each."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from config.schema import FaultRule
from tests.chaos.books import STATES, assert_equal_to_the_gateway, assert_one_outcome_each, number, rows, settle
from tests.chaos.engine_process import EngineRun, runs
from tests.chaos.load import AWAY, PRICES, QUIET, Load
from tests.chaos.order_plan import MENDED, STEPS, VICTIMS, Strike, life
from tests.chaos.points import FAST, override

STRIKE_S_MAX = 20.0
LATE_S = 10.0
"""How long a strike may come after its step is over at the gateway: the last deliveries, on a loaded machine."""
OFFSETS = {"rest": 1, "partial_fill": -1, "entry_fill": -2}
"""Prices of a buy's life, in whole units from its limit; a sell's are mirrored."""
OVER = ("Filled", "Cancelled", "Inactive", "ApiCancelled")

CALM = ("venues.exchange.symbols=6", "venues.exchange.rate_per_s=20", "venues.gateway.partial_parent=keep")
"""Market data takes no part here. What a bracket's exits have to be, the gateway leaves to the broker."""

UNMET = FaultRule(role="nobody", point="receive", action="hang")
"""In the plan for a strike that the gateway makes by itself, so that rules and strikes have one numbering."""


class Told:
    """Strikes by step and victim, planned and struck; outcomes of signals; what was not met. `say`: each, as it is."""

    def __init__(self, say: bool = False) -> None:
        self.say = say
        self.planned: Counter[tuple[str, str]] = Counter()
        self.struck: Counter[tuple[str, str]] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.missed: list[str] = []

    def strike(self, strike: Strike, hit: bool, took_s: float) -> None:
        """Count one that was survived."""
        key = (strike.step, strike.victim)
        self.planned[key] += 1
        self.struck[key] += hit
        if not hit:
            self.missed.append(str(strike))
        if self.say:
            print(f"  {'struck' if hit else 'NOT MET'} {strike} ({took_s:.1f} s)", flush=True)

    def __str__(self) -> str:
        """Struck of planned, a line a step, a column a victim; then the rest."""
        lines = ["".join(f"{name:>14}" for name in ("step", *VICTIMS, "all"))]
        for step in STEPS:
            cells = [f"{self.struck[step, victim]}/{self.planned[step, victim]}" for victim in VICTIMS]
            total = [sum(count[step, victim] for victim in VICTIMS) for count in (self.struck, self.planned)]
            lines.append("".join(f"{cell:>14}" for cell in (step, *cells, f"{total[0]}/{total[1]}")))
        lines.append(f"in all {self.struck.total()} of {self.planned.total()} struck")
        lines.append("outcomes: " + ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common()))
        lines.append("not met: " + ("; ".join(self.missed) or "none"))
        return "\n".join(lines)


class OrderChaos:
    """One engine and the brackets that live on it, one after another."""

    def __init__(self, engine: EngineRun, strikes: list[Strike], seed: int, told: Told) -> None:
        self.engine, self.strikes, self.told = engine, strikes, told
        self.random = random.Random(f"orders {seed} prices")
        self.load = Load(engine, seed, ttl_s=300.0)
        self.name, self.symbol, self.sign, self.exit_at = "", "", 1, 6

    # ---- one life

    def live(self, index: int) -> None:
        """Take one bracket through its life, with its strike on the way; settle; compare."""
        strike, began = self.strikes[index], time.monotonic()
        self.symbol, self.sign = self.random.choice(sorted(PRICES)), self.random.choice((1, -1))
        self.exit_at = self.random.choice((6, -6))
        self.engine.wait_serving()
        self._there(self._rest, "the gateway takes a price")
        pids = self.engine.pids()
        hit = False
        for step in life(strike.step):
            if step == strike.step:
                self._arm(index, strike)
            self._act(step)
            if step == strike.step:
                hit = self._strike(index, strike, pids)
            self._there(lambda step=step: self._done(step), f"{step} is done", 90)  # type: ignore[misc]
            if not self._submitted():
                break
        self._compare(is_mended=strike.step in MENDED)
        self.told.strike(strike, hit, time.monotonic() - began)

    def _rest(self) -> bool:
        """Prices at which the coming entry rests, and fills in single shares once they come."""
        self._price(OFFSETS["rest"])
        self.engine.gateway("fault", kind="partial_fills", size="1")
        return True

    def _act(self, step: str) -> None:
        if step == "submit":
            side = "BUY" if self.sign > 0 else "SELL"
            while not (name := self.load.signal(self.symbol, side, limit=True)):
                time.sleep(0.1)
            self.name = name
            return

        if step in MENDED:
            leg = "entry" if step == "resize" else "stop_loss"
            self._there(lambda: self._ended_by_the_gateway(leg), f"the gateway ends its {leg}")
            return

        def moved() -> bool:
            if step != "partial_fill":
                self.engine.gateway("fault", kind="partial_fills", on=False)
            self._price(OFFSETS.get(step, self.exit_at))
            return True

        self._there(moved, "the gateway takes a price")

    def _ended_by_the_gateway(self, leg: str) -> bool:
        order = self._family()[leg]
        if order["status"] not in OVER:
            self.engine.gateway("cancel_order", perm_id=order["perm_id"])
        return self._family()[leg]["status"] in OVER

    def _price(self, offset: int) -> None:
        self.load.price(self.symbol, str(offset * self.sign))

    def _submitted(self) -> bool:
        return self.engine.outcomes()[self.name]["outcome"] == "submitted"

    def _done(self, step: str) -> bool:
        """By the gateway's own word; at first by the outcome's, which may be that nothing goes out."""
        if step == "submit":
            outcome = self.engine.outcomes().get(self.name)
            return bool(outcome) and (outcome["outcome"] != "submitted" or len(self._family()) == 3)  # type: ignore[index]
        legs = self._family()
        entry = legs.get("entry", {})
        if step == "partial_fill":
            return number(entry.get("filled", 0)) > 0
        if step == "entry_fill":
            return entry.get("status") == "Filled"
        if step in MENDED:
            guarding = ("take_profit", "stop_loss" if step == "resize" else "stop_again")
            working = [legs[leg] for leg in guarding if leg in legs and legs[leg]["status"] not in OVER]
            sizes = {number(leg["qty"]) for leg in working}
            return len(working) == 2 and sizes == {number(entry["filled"])} and self._told_of_all()
        return len(legs) >= 3 and all(leg["status"] in OVER for leg in legs.values())

    def _family(self) -> dict[str, dict[str, object]]:
        """The gateway's orders of this life, by leg; `stop_again`: the stop that was put back."""
        ours = self.engine.orders()
        refs = {ref: str(order["leg"]) for ref, order in ours.items() if order["signal_id"] == self.name}
        again = {f"stop_again:{ours[ref]['intent_id']}" for ref in refs}
        refs |= {ref: "stop_again" for ref, order in ours.items() if order["signal_id"] in again}
        orders = rows(self.engine, "list_orders", "orders")
        return {refs[str(order["order_ref"])]: order for order in orders if order["order_ref"] in refs}

    def _told_of_all(self) -> bool:
        ours = self.engine.orders()
        return all(ours[str(o["order_ref"])]["state"] in STATES[str(o["status"])] for o in self._family().values())

    # ---- the strike

    def _arm(self, index: int, strike: Strike) -> None:
        if strike.rule() is None:
            fault = {"kind": "die_at_place", "when": strike.place.point, "nth": strike.nth}
            self._there(lambda: self.engine.gateway("fault", **fault), "the gateway takes a fault")  # type: ignore[arg-type]
        else:
            note(self.engine.run_dir, index, strike).unlink()

    def _strike(self, index: int, strike: Strike, pids: dict[str, int]) -> bool:
        """Wait for it, kill from outside what does not die by itself; False if the step passed without it."""
        mark, victim = note(self.engine.run_dir, index, strike), pids[strike.victim]
        deadline = time.monotonic() + STRIKE_S_MAX
        over_at = 0.0
        while time.monotonic() < deadline and (not over_at or time.monotonic() < over_at + LATE_S):
            for _ in range(40):
                if strike.rule() is None and not runs(victim):
                    return True
                if strike.rule() is not None and mark.exists():
                    return self._killed(strike, victim)
                time.sleep(0.005)
            if not over_at and self._sees(lambda: self._done(strike.step)):
                over_at = time.monotonic()
        if strike.rule() is not None:
            try:
                mark.touch(exist_ok=False)
            except FileExistsError:
                return self._killed(strike, victim)
        return False

    def _killed(self, strike: Strike, victim: int) -> bool:
        """True once the victim is dead by this strike. One that was replaced meanwhile is killed in its successor."""
        if strike.victim == strike.place.role:
            return True
        if not runs(victim):
            try:
                victim = self.engine.pids().get(strike.victim, 0)
            except AWAY:
                victim = 0
        if not victim or not runs(victim):
            return False
        self.engine.strikes(strike.victim)
        os.kill(victim, signal.SIGKILL)
        return True

    # ---- looking

    def _compare(self, is_mended: bool) -> None:
        self._there(lambda: self.engine.gateway("clear"), "the gateway's faults end")
        # A broker that stood still has not heard of its gateway's death yet, and shows a picture that looks settled.
        self._there(self._told_of_all, "our orders end as the gateway's did")
        settle(self.engine, self.load.published)
        assert_equal_to_the_gateway(self.engine)
        assert_one_outcome_each(self.engine, self.load.published)
        assert self.engine.status().halt is None, self.engine.status().halt
        legs = self._family()
        if not self._submitted():
            outcome = self.engine.outcomes()[self.name]
            assert not any(number(leg["filled"]) for leg in legs.values()), f"{outcome} and filled: {legs}"
            self.told.outcomes[f"{outcome['outcome']} {outcome.get('guard', '')}".strip()] += 1
            return
        self.told.outcomes["submitted"] += 1
        ends = {leg: (str(order["status"]), number(order["filled"]) > 0) for leg, order in legs.items()}
        stop = "stop_again" if is_mended else "stop_loss"
        taken, left = ("take_profit", stop) if self.exit_at > 0 else (stop, "take_profit")
        wanted = {"entry": ("Filled", True), taken: ("Filled", True), left: ("Cancelled", False)}
        if is_mended:
            wanted |= {"entry": ("Cancelled", True), "stop_loss": ("Cancelled", False)}
        assert ends == wanted, legs
        assert number(legs[taken]["filled"]) == number(legs["entry"]["filled"]), legs
        assert self.engine.gateway_positions().get(self.symbol, Decimal(0)) == 0

    def _sees(self, condition: Callable[[], object]) -> bool:
        try:
            return bool(condition())
        except (*AWAY, json.JSONDecodeError, OSError):
            return False

    def _there(self, condition: Callable[[], object], what: str, seconds_max: float = 60.0) -> None:
        """Wait until it holds; whoever is dead just now is a condition not met."""
        self.engine.wait(lambda: self._sees(condition), seconds_max, f"{self.name}: {what}")


def note(run_dir: Path, index: int, strike: Strike) -> Path:
    """Its file says that a rule struck, or is not armed."""
    return run_dir / "faults" / f"{index}.{strike.place.role}.1"


def run_orders(run_dir: Path, strikes: list[Strike], seed: int, told: Told) -> None:
    """One engine, a bracket a strike; raises AssertionError with what was lost or doubled, and by which strike."""
    rules = [strike.rule() or UNMET for strike in strikes]
    for index, strike in enumerate(strikes):
        unarmed = note(run_dir, index, strike)
        unarmed.parent.mkdir(parents=True, exist_ok=True)
        unarmed.touch()
    with EngineRun(run_dir, *QUIET, *FAST, *CALM, override(rules)) as engine:
        engine.wait_serving()
        chaos = OrderChaos(engine, strikes, seed, told)
        for index, strike in enumerate(strikes):
            try:
                chaos.live(index)
            except AssertionError as error:
                raise AssertionError(f"bracket {index} ({chaos.name}), {strike}: {error}") from error
