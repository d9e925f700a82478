"""What each measure is held to, as ratios of medians in one run; see docs/performance.md."""

from __future__ import annotations

from benchmarks.report import LIMIT, Target

AT_20_000 = "at 20,000 ready"
LIBRARY = "library"
IDEAL = "ideal"
SUPERVISORCTL = "supervisorctl"


def _least(factor: float, versus: str = LIMIT) -> Target:
    return Target(factor=factor, versus=versus)


def _most(factor: float, versus: str = "") -> Target:
    return Target(factor=factor, versus=versus, at_least=False)


_STATS = (_most(2),)  # ms
TARGETS: dict[str, dict[str, tuple[Target, ...]]] = {
    "sqlite": {
        "put": (_least(0.85),),
        "put_many": (_least(0.35),),
        "one": (_least(0.85),),
        "drain": (_least(0.5), _least(15, "huey")),
        "drain4": (_least(0.5),),
        "growth": (_least(0.6, AT_20_000),),
        "wake": (_most(0.5),),  # ms
        "idle": (_most(1),),  # percent of a core
        "stats": _STATS,
        "worker-rss": (_most(18),),  # MiB
    },
    "postgresql": {
        "put": (_least(0.85), _least(1.5, "pgqueuer")),
        "put_many": (_least(0.5), _least(2, "pgqueuer")),
        "one": (_least(0.9),),
        "drain": (_least(0.65), _least(2.5, "pgqueuer")),
        "drain4": (_least(0.65), _least(3, "pgqueuer")),
        "growth": (_least(0.8, AT_20_000),),
        "old-tx": (_least(0.8, AT_20_000),),
        "wake": (_most(0.8, "pgqueuer"),),
        "idle": (_most(1),),
        "questions": (_most(0.5),),  # a second
        "stats": _STATS,
        "worker-rss": (_most(40),),
    },
    "mariadb": {
        "put": (_least(0.85),),
        "put_many": (_least(0.6),),
        "one": (_least(0.8),),
        "drain": (_least(0.6),),
        "drain4": (_least(0.6),),
        "growth": (_least(0.8, AT_20_000),),
        "old-tx": (_least(0.8, AT_20_000),),
        "wake": (_most(1.5),),
        "idle": (_most(1),),
        "questions": (_most(2),),
        "stats": _STATS,
    },
    "beanstalkd": {
        "put": (_least(0.9, "greenstalk"),),
        "put_many": (_least(0.9),),
        "one": (_least(1, "greenstalk"),),
        "drain": (_least(0.85),),
        "drain4": (_least(0.85),),
        "wake": (_most(1.2, "greenstalk"),),
        "idle": (_most(1),),
    },
}
# A million jobs, each synced, would take minutes to store: growth is measured where the server batches syncs.
TARGETS["beanstalkd-default"] = TARGETS["beanstalkd"] | {
    "drain": (_least(0.85), _least(7, "greenstalk")),
    "growth": (_least(0.8, AT_20_000),),
    "stats": (_most(1),),
}
_ANY = {
    "worker": (_least(0.7, LIBRARY),),
    "worker-first": (_most(150),),  # ms
    "worker-fair": (_most(1.03, IDEAL),),
    "help": (_most(150),),  # ms
    "status": (_most(300),),
    "status-many": (_most(1, SUPERVISORCTL),),
    "render-many": (_most(1),),  # s
    "plan-many": (_most(1),),  # s
    "silence": (_most(0.3),),  # s
    "down": (_most(5),),
}


def of(backend: str, key: str) -> tuple[Target, ...]:
    return TARGETS.get(backend, {}).get(key, _ANY.get(key, ()))
