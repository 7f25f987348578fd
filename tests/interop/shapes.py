"""The flows that are left behind by one package and taken up by the other; the engines are not imported here."""

from __future__ import annotations

from dataclasses import dataclass

from tests.model.specs import (
    ALWAYS,
    CUSTOM,
    EACH,
    GRAPH,
    LINEAR,
    PARAMETER,
    REVERT,
    REVERT_ALL,
    TIMES,
    UNORDERED,
    Again,
    Group,
    Job,
    Link,
    Spec,
)


@dataclass(frozen=True)
class Choosy(Job):
    """A task that takes some values when there are any."""

    may: tuple[str, ...] = ()


@dataclass(frozen=True)
class Left:
    """A flow that is left behind, and after how many calls it is suspended."""

    spec: Spec
    stop: int = 0


def _flow(kind: str, name: str, *members: object, retry: Again | None = None, links: tuple[Link, ...] = ()) -> Group:
    return Group(kind, name, members, retry, links, tuple(range(len(members))))


def _linear(*members: object, name: str = "f1", retry: Again | None = None) -> Group:
    return _flow(LINEAR, name, *members, retry=retry)


def _abc(**changed: object) -> list[Job]:
    """Return three tasks, each of which needs what the one before gives."""
    jobs = [Job("a", (), "va"), Job("b", ("va",), "vb"), Job("c", ("vb",), "vc")]
    return [changed.get(job.name, job) for job in jobs]  # type: ignore[misc]


FAILS = Job("z", (), None, fails=ALWAYS)
_FAILS_ONCE = (("r1", 1),)
_FAILS_TWICE = (("r1", 2),)


def _in_levels(outer: Again, inner: Again, *, fails: object, **options: object) -> Spec:
    """Return a flow with a retry in a flow with a retry; what fails is in the inner one."""
    nested = _linear(Job("b", ("va",), "vb"), Job("c", ("vb",), None, fails=fails), name="f2", retry=inner)  # type: ignore[arg-type]
    return Spec(_linear(Job("a", (), "va"), nested, Job("d", ("vb",)), retry=outer), **options)  # type: ignore[arg-type]


def _deciding(depth: str | None, verdict: str = "no") -> Spec:
    return Spec(
        _flow(
            GRAPH,
            "f1",
            Job("a", (), "va"),
            Job("b", ("va",)),
            Job("c"),
            _linear(Job("d"), Job("e"), name="f2"),
            Job("f"),
            links=(Link(0, 1, "yes"), Link(0, 2, verdict, depth), Link(2, 3), Link(2, 4)),
        )
    )


SHAPES = {
    "linear": Left(Spec(_linear(*_abc()), {"s0": 1})),
    "linear-reverted": Left(Spec(_linear(*_abc(), FAILS))),
    "unordered": Left(Spec(_flow(UNORDERED, "f1", Job("a", ("s0",), "va"), Job("b"), Job("c")), {"s0": 1})),
    "unordered-reverted": Left(Spec(_flow(UNORDERED, "f1", Job("a"), Job("b", fails=ALWAYS), Job("c")))),
    "graph": Left(
        Spec(_flow(GRAPH, "f1", Job("a", (), "va"), Job("b", ("va",), "vb"), Job("c", ("va",)), Job("d", ("vb",))))
    ),
    "graph-deciders": Left(_deciding(None)),
    "graph-deciders-flow": Left(_deciding("FLOW")),
    "graph-deciders-neighbors": Left(_deciding("NEIGHBORS")),
    "graph-deciders-atom": Left(_deciding("ATOM")),
    "nested": Left(
        Spec(
            _linear(
                Job("a", (), "va"),
                _flow(UNORDERED, "f2", Job("b", ("va",)), _linear(Job("c", (), "vc"), Job("d", ("vc",)), name="f3")),
                Job("e"),
            )
        )
    ),
    "nested-reverted": Left(
        Spec(
            _linear(
                Job("a", (), "va"),
                _flow(UNORDERED, "f2", Job("b", ("va",)), _linear(Job("c", (), "vc"), Job("d", ("vc",)), name="f3")),
                FAILS,
            )
        )
    ),
    "times": Left(Spec(_linear(*_abc(b=Job("b", ("va",), "vb", fails=_FAILS_TWICE)), retry=Again("r1", TIMES, 3)))),
    "times-last-fails": Left(
        Spec(_linear(*_abc(c=Job("c", ("vb",), "vc", fails=_FAILS_ONCE)), retry=Again("r1", TIMES, 2)))
    ),
    "times-given-up": Left(Spec(_linear(Job("a"), Job("b", fails=ALWAYS), Job("c"), retry=Again("r1", TIMES, 2)))),
    "times-unordered": Left(
        Spec(
            _flow(
                UNORDERED, "f1", Job("a"), Job("b", fails=_FAILS_ONCE), Job("c"), Job("d"), retry=Again("r1", TIMES, 2)
            )
        )
    ),
    "for-each": Left(Spec(_linear(*_abc(b=Job("b", ("va",), "vb", fails=_FAILS_TWICE)), retry=Again("r1", EACH, 3)))),
    "for-each-of-parameter": Left(
        Spec(_linear(*_abc(b=Job("b", ("va",), "vb", fails=_FAILS_ONCE)), retry=Again("r1", PARAMETER, 3)))
    ),
    "two-levels-outer-cures": Left(
        _in_levels(Again("r1", TIMES, 2), Again("r2", EACH, 2), fails=(("r1", 1), ("r2", 0)))
    ),
    "two-levels-inner-cures": Left(_in_levels(Again("r1", EACH, 2), Again("r2", TIMES, 2), fails=(("r2", 1),))),
    "two-levels-given-up": Left(_in_levels(Again("r1", TIMES, 2), Again("r2", TIMES, 2), fails=ALWAYS)),
    "two-levels-deferred": Left(
        _in_levels(Again("r1", REVERT), Again("r2", TIMES, 2), fails=ALWAYS, defer_reverts=True)
    ),
    "inner-reverted": Left(
        Spec(
            _linear(Job("a"), _linear(Job("b"), Job("c", fails=ALWAYS), name="f2", retry=Again("r1", REVERT)), Job("d"))
        )
    ),
    "revert-all": Left(
        Spec(
            _linear(
                Job("a"),
                _linear(Job("b"), Job("c", fails=ALWAYS), name="f2", retry=Again("r1", TIMES, 2, revert_all=True)),
                Job("d"),
            )
        )
    ),
    "always-revert-all": Left(
        Spec(_linear(Job("a"), _linear(Job("b", fails=ALWAYS), name="f2", retry=Again("r1", REVERT_ALL)), Job("d")))
    ),
    "custom": Left(
        Spec(
            _linear(
                *_abc(b=Job("b", ("va",), "vb", fails=_FAILS_ONCE)),
                retry=Again("r1", CUSTOM, 2, decisions=("RETRY", "REVERT")),
            )
        )
    ),
    "deciders-in-retry": Left(
        Spec(
            _flow(
                GRAPH,
                "f1",
                Job("a", (), "va"),
                Job("b"),
                Job("c", fails=_FAILS_ONCE),
                Job("d"),
                links=(Link(0, 1, "no", "ATOM"), Link(0, 2, "yes"), Link(1, 3)),
                retry=Again("r1", TIMES, 2),
            )
        )
    ),
    "retry-then-more": Left(
        Spec(
            _linear(
                Job("a"),
                _linear(Job("b", (), "vb"), Job("c", fails=_FAILS_ONCE), name="f2", retry=Again("r1", TIMES, 2)),
                Job("d", ("vb",)),
                FAILS,
            )
        )
    ),
    "stuck": Left(Spec(_linear(Job("a"), Job("b", stuck=1), FAILS))),
    "stuck-in-retry": Left(
        Spec(_linear(Job("a"), Job("b", stuck=1), Job("c", fails=_FAILS_ONCE), retry=Again("r1", TIMES, 2)))
    ),
    "optional": Left(
        Spec(
            _linear(
                Job("a", (), ("va", "vb"), short=True),
                Choosy("b", ("va",), "vc", may=("s0", "s1")),
                Choosy("c", ("vc",), may=("vd",)),
            ),
            {"s0": 3},
        )
    ),
    "suspended": Left(Spec(_linear(*_abc(), Job("d"), Job("e"))), stop=2),
    "suspended-rollback": Left(Spec(_linear(*_abc(), FAILS)), stop=5),
    "suspended-retry": Left(
        Spec(_linear(*_abc(c=Job("c", ("vb",), "vc", fails=_FAILS_ONCE)), retry=Again("r1", TIMES, 2))), stop=4
    ),
}
