"""Random workflow programs, as data: a tree of nodes for each workflow, and what is said to the run from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

PARALLEL = ("all", "gather", "group", "map")
FRAGILE = ("race", "within", "attempt", "leave")
"""Below these a node may be cut off before its end."""
LEAVES = {
    "step": 10, "sleep": 3, "loop": 2, "wait": 3, "late": 2, "spend": 2, "emit": 3, "mark": 2, "draw": 2, "once": 2,
    "undo": 6, "blocking": 1, "patched": 1, "turns": 1, "queue": 1, "dear": 1,
}  # fmt: skip
BRANCHES = {
    "seq": 3, "all": 2, "gather": 2, "group": 2, "map": 2, "race": 2, "within": 2, "attempt": 2, "cleanup": 1,
    "child": 3, "leave": 1, "rooms": 1,
}  # fmt: skip

DEAR = 100_000_000
"""What a "dear" step costs: more than any budget that is drawn."""


@dataclass(frozen=True, slots=True)
class Node:
    """One thing that a handler does. ``id`` is unique within a program; ``args`` depend on the kind."""

    kind: str
    id: int
    args: dict[str, Any] = field(default_factory=dict)
    kids: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """It and all below it."""
        yield self
        for kid in self.kids:
            yield from kid.walk()


@dataclass(frozen=True, slots=True)
class Body:
    """One workflow. ``generations``: how many histories its run has, continued as new between them."""

    root: Node
    generations: int = 1
    recursive: bool = False
    carry: bool = True
    doomed: bool = False
    """It fails at its end."""


@dataclass(frozen=True, slots=True)
class Program:
    """Workflows, the first of which is started from outside."""

    bodies: tuple[Body, ...]
    budget: int | None = None
    """Tokens of the root's budget: more than it can spend."""

    def nodes(self) -> list[Node]:
        """Every node of every body."""
        return [node for body in self.bodies for node in body.root.walk()]

    def waits(self) -> int:
        """How many signals the root takes in all its generations."""
        body = self.bodies[0]
        return body.generations * sum(node.kind == "wait" for node in body.root.walk())

    def kinds(self) -> set[str]:
        """What kinds of nodes there are."""
        return {node.kind for node in self.nodes()}

    def seconds(self) -> float:
        """More virtual time than it takes where nothing goes wrong."""
        total = 0.0
        for body in self.bodies:
            one = sum(_seconds(node) for node in body.root.walk())
            total += one * body.generations
        return total * 8 + 60


def _seconds(node: Node) -> float:
    spent = float(node.args.get("seconds", 0)) + float(node.args.get("lasts", 0))
    return spent * (node.args.get("times", 1) + node.args.get("fails", 0)) + node.args.get("fails", 0) * 200


def show(program: Program) -> str:
    """The program as a person reads it."""
    lines = [f"budget {program.budget}"] if program.budget is not None else []
    for n, body in enumerate(program.bodies):
        more = f", {body.generations} generations" if body.generations > 1 else ""
        lines.append(
            f"workflow w{n}{more}{', recursive' if body.recursive else ''}{', doomed' if body.doomed else ''}:"
        )
        lines += _shown(body.root, 1)
    return "\n".join(lines)


def _shown(node: Node, depth: int) -> list[str]:
    args = " ".join(f"{name}={value}" for name, value in node.args.items() if value)
    return [
        f"{'  ' * depth}{node.kind} {node.id} {args}".rstrip(),
        *(line for kid in node.kids for line in _shown(kid, depth + 1)),
    ]


class Author:
    """Draws one program."""

    def __init__(self, random: Random, sizes: tuple[int, ...]) -> None:
        self.random, self.sizes = random, sizes
        self.next = 0
        keep = random.choice((0.3, 0.6, 1.0))  # swarm: what is left out matters as much as what is in
        self.leaves = {kind: n for kind, n in LEAVES.items() if kind == "step" or random.random() < keep}
        self.branches = {kind: n for kind, n in BRANCHES.items() if kind == "seq" or random.random() < keep}
        self.hitch = random.random() < 0.07
        """Whether a step of the root fails until somebody has mended what it needs, and tries the run again."""
        if self.hitch:  # what was sent to a run that failed is gone with its end, and what it has undone stays undone
            self.leaves = {kind: n for kind, n in self.leaves.items() if kind not in ("wait", "late", "undo")}
            self.leaves["hitch"] = 4
        self.most_bodies = random.choice((1, 1, 2, 3))
        self.children: list[int] = []

    def program(self) -> Program:
        """Small most often, with a tail of large ones."""
        random = self.random
        left = min(60, 1 + int(random.expovariate(1 / random.choice((0.5, 0.5, 0.5, 0.5, 1, 1, 1, 2, 3, 8)))))
        bodies: list[Body] = []
        roots = [self._node(0, left, 0, fragile=False)]
        while len(roots) <= max(self.children, default=0):
            roots.append(self._node(0, 1 + int(random.expovariate(1 / 2)), len(roots), fragile=False))
        for n, root in enumerate(roots):
            recursive = any(node.kind in ("child", "leave") and node.args["body"] <= n for node in root.walk())
            generations = 1
            if random.random() < 0.2 and not recursive:
                generations = random.choice((2, 2, 3))
            bodies.append(Body(root, generations, recursive, carry=True))
        if random.random() < 0.2:
            bodies[0] = replace(bodies[0], doomed=True)
        budget = 10_000_000 if random.random() < 0.5 else None
        return Program(tuple(bodies), budget)

    def _id(self) -> int:
        self.next += 1
        return self.next

    def _node(self, depth: int, left: int, body: int, fragile: bool) -> Node:
        random = self.random
        if left <= 1 or depth > 5:
            return self._leaf(body, fragile)
        kind = random.choices(list(self.branches), list(self.branches.values()))[0]
        if kind in ("child", "leave"):
            return self._child(kind, depth, left, body)
        if kind in ("within", "attempt"):
            args = {"seconds": random.choice((1, 5, 30, 300))} if kind == "within" else {"fails": random.random() < 0.5}
            return Node(kind, self._id(), args, (self._node(depth + 1, left - 1, body, True),))
        if kind == "cleanup":
            return Node(kind, self._id(), {}, (self._node(depth + 1, left - 2, body, fragile), self._step(body)))
        if fragile and kind in ("all", "gather", "group") and random.random() < 0.4:  # tidying up, in some order
            count = random.randint(2, 4)
            tidy = tuple(
                Node("cleanup", self._id(), {}, (self._node(5, 1, body, True), self._step(body))) for _ in range(count)
            )
            return Node(kind, self._id(), {}, tidy)
        count = random.randint(2, min(5, max(2, left)))
        args = {"limit": random.choice((0, 0, 1, 2))} if kind in ("all", "map") else {}
        below = fragile or kind == "race"
        kids = tuple(self._node(depth + 1, (left - 1) // count, body, below) for _ in range(count))
        return Node(kind, self._id(), args, kids)

    def _child(self, kind: str, depth: int, left: int, body: int) -> Node:
        random = self.random
        later = list(range(body + 1, self.most_bodies))
        target = random.choice(later) if later and random.random() < 0.85 else body
        if target == body and target == 0:
            target = 1  # the root has its waits to itself
        if target != body:
            self.children.append(target)
        args: dict[str, Any] = {"body": target, "abandon": random.random() < 0.3}
        if kind == "leave":
            args["seconds"] = random.choice((0, 1, 20))
        return Node(kind, self._id(), args)

    def _step(self, body: int) -> Node:
        return self._leaf(body, True, "step")

    def _leaf(self, body: int, fragile: bool, kind: str | None = None) -> Node:
        random = self.random
        kind = kind or random.choices(list(self.leaves), list(self.leaves.values()))[0]
        if kind in ("wait", "late") and (body != 0 or (kind == "wait" and fragile)):
            kind = "step"
        if (kind == "patched" and body != 0) or (kind == "hitch" and (body != 0 or fragile)):
            kind = "step"
        args: dict[str, Any] = {}
        if kind in ("step", "undo", "blocking", "loop"):
            args["size"] = random.choice(self.sizes) if random.random() < 0.4 else 0
            args["lasts"] = random.choice((0, 0, 0, 0.01, 1, 3)) if kind != "blocking" else random.choice((0, 1, 3))
        if kind == "step":
            if random.random() < 0.25:
                args["fails"] = random.choice((1, 1, 2))
                args["backoff"] = random.choice((0, 1, 5, 90))
            if random.random() < 0.2:
                args["cost"] = random.randint(1, 9)
            if random.random() < 0.15:
                args["timeout"] = random.choice((2, 20))
        elif kind == "undo":
            args["undoing"] = random.choice((0, 0, 1, 5))
        elif kind == "once":
            args["lasts"] = random.choice((0, 0, 1))
            args["fails"] = random.random() < 0.3
        elif kind == "blocking":
            args["thread"] = random.random() < 0.5
        elif kind == "loop":
            args["times"] = 520 if random.random() < 0.003 else min(200, 2 + int(random.expovariate(1 / 8)))
            args["lasts"] = 0
        elif kind == "sleep":
            args["seconds"] = random.choice((0, 0.5, 1, 5, 60, 3600))
        elif kind == "late":
            args["seconds"] = random.choice((1, 5, 30, 600))
        elif kind == "spend":
            args["tokens"] = random.randint(1, 9)
        elif kind == "hitch":
            args["dear"] = random.random() < 0.3
        elif kind == "turns":
            args["times"] = random.choice((1, 3))
        return Node(kind, self._id(), args)


def smaller(program: Program) -> Iterator[Program]:
    """Programs with one thing less, the largest cuts first."""
    last = len(program.bodies) - 1
    if last and all(node.args.get("body") != last for node in program.nodes()):
        yield replace(program, bodies=program.bodies[:-1])
    for n, body in enumerate(program.bodies):
        if body.generations > 1:
            yield _with(program, n, replace(body, generations=body.generations - 1))
        for root in _without(body.root):
            yield _with(program, n, replace(body, root=root))
        if body.doomed:
            yield _with(program, n, replace(body, doomed=False))
    if program.budget is not None:
        yield replace(program, budget=None)


def _with(program: Program, n: int, body: Body) -> Program:
    return replace(program, bodies=(*program.bodies[:n], body, *program.bodies[n + 1 :]))


def _without(node: Node) -> Iterator[Node]:
    yield from node.kids
    if node.kind != "step" or any(node.args.values()):
        yield Node("step", node.id, {})
    fewest = {"seq": 1, "all": 1, "gather": 1, "group": 1, "map": 1, "race": 1, "rooms": 1}.get(node.kind, 99)
    if len(node.kids) > fewest:
        for n in range(len(node.kids)):
            yield replace(node, kids=(*node.kids[:n], *node.kids[n + 1 :]))
    if node.args.get("times", 1) > 1:
        yield replace(node, args={**node.args, "times": node.args["times"] // 2})
    for name in ("size", "lasts", "fails", "cost", "timeout", "limit", "abandon", "backoff"):
        if node.args.get(name):
            yield replace(node, args={**node.args, name: 0})
    for n, kid in enumerate(node.kids):
        for less in _without(kid):
            yield replace(node, kids=(*node.kids[:n], less, *node.kids[n + 1 :]))


__all__ = ["DEAR", "Author", "Body", "Node", "Program", "show", "smaller"]
