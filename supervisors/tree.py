"""The supervision tree, as data."""

from __future__ import annotations

from config.schema import Settings
from supervisors.spec import Backoff, ChildSpec, RestartType, Strategy, SupervisorSpec

WIRING = "actors.adapters.wiring"
SPOT_BROKER = "broker.spot"


def build_tree(settings: Settings) -> SupervisorSpec:
    """Return the tree for these settings.

    Budgets grow towards the root: a leaf's crash loop is first its own supervisor's affair. Below a supervisor the
    order is the order of dependence: what stands to the right needs what stands to the left.
    """
    return SupervisorSpec(
        role="root",
        strategy=Strategy.ONE_FOR_ONE,
        intensity=settings.supervision.root_intensity,
        period_s=settings.supervision.root_period_s,
        backoff=_backoff(settings),
        children=(_execution(settings),)
        if settings.run.tree == "flatten"
        else (_market(settings), _execution(settings), _research(settings), _operations(settings)),
    )


def _backoff(settings: Settings) -> Backoff:
    """The first restart is immediate, the second in a row waits, and so on up to `max_s`."""
    return Backoff(first_s=0.0, factor=2.0, max_s=settings.supervision.backoff_s_max)


def _one_for_one(settings: Settings, role: str, children: tuple[ChildSpec, ...]) -> SupervisorSpec:
    supervision = settings.supervision
    return SupervisorSpec(
        role, Strategy.ONE_FOR_ONE, supervision.intensity, supervision.period_s, _backoff(settings), children
    )


def _market(settings: Settings) -> SupervisorSpec:
    # Recordings take the venue's place.
    kinds = ("replay",) if settings.exchange.replay.paths else ("spot", "backup")[: settings.exchange.redundancy]
    feeds = tuple(
        _worker(f"feed.{kind}.{shard}", "feed", shard=str(shard))
        for kind in kinds
        for shard in range(settings.exchange.feed_shards)
    )
    return SupervisorSpec(
        role="market",
        strategy=Strategy.REST_FOR_ONE,
        intensity=settings.supervision.intensity,
        period_s=settings.supervision.period_s,
        backoff=_backoff(settings),
        children=(
            _worker("book", "book"),
            _one_for_one(settings, "feeds", feeds),
            _worker("evaluator", "evaluator"),
        ),
    )


def _execution(settings: Settings) -> SupervisorSpec:
    alone = settings.run.tree == "flatten"
    trades_cycles = not settings.evaluator.dry_run and not alone
    brokers = (_worker("broker.paper", "broker"), *((_worker(SPOT_BROKER, "broker_spot"),) if trades_cycles else ()))
    executors = (_worker("executor", "executor"),) if trades_cycles else ()
    return SupervisorSpec(
        role="execution",
        strategy=Strategy.REST_FOR_ONE,
        intensity=settings.supervision.intensity,
        period_s=settings.supervision.period_s,
        backoff=_backoff(settings),
        children=(
            _one_for_one(settings, "brokers", brokers),
            _worker("reconciler", "reconciler"),
            _worker("risk", "risk"),
            *(() if alone else (_worker("allocator", "allocator"), _worker("sentinel", "sentinel"))),
            *executors,
        ),
    )


def _research(settings: Settings) -> SupervisorSpec:
    sources = (_worker("source.momentum", "momentum"),) if settings.momentum.enabled else ()
    return _one_for_one(settings, "research", sources)


def _operations(settings: Settings) -> SupervisorSpec:
    return _one_for_one(settings, "operations", (_worker("health", "health"),))


def _worker(role: str, builder: str, **options: str) -> ChildSpec:
    return ChildSpec(
        role=role,
        kind="worker",
        actor=f"{WIRING}:{builder}",
        restart_type=RestartType.PERMANENT,
        shutdown_s=1.0,
        depends_on_ledger=True,
        options=tuple(options.items()),
    )
