"""Reading what is judged, an expression after the other: each finding with its place, its rule and its remedy."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from . import rules
from .handlers import Judged, Source
from .names import Scope
from .rules import Rule, rule_of

_DATA = {
    "os.environ", "os.environb", "sys.argv", "sys.platform", "sys.version", "sys.version_info", "sys.executable",
    "sys.stdin", "sys.path", "sys.modules", "sys.flags",
}  # fmt: skip
"""Surroundings that need no call to be read."""
_ORDERED = {
    "builtins.list", "builtins.tuple", "builtins.enumerate", "builtins.zip", "builtins.map", "builtins.filter",
    "builtins.iter", "builtins.reversed", "builtins.str", "builtins.repr", "builtins.dict.fromkeys", "functools.reduce",
    "collections.deque", "itertools.chain", "itertools.islice", "itertools.product", "itertools.permutations",
    "itertools.combinations", "itertools.groupby", "itertools.batched", "itertools.pairwise", "itertools.zip_longest",
    "json.dumps",
}  # fmt: skip
"""What gives, of a set, something that has its order."""
_UNORDERED = {
    "builtins.any", "builtins.all", "builtins.sum", "builtins.min", "builtins.max", "builtins.sorted", "builtins.set",
    "builtins.frozenset", "builtins.len", "collections.Counter", "math.fsum", "math.prod",
}  # fmt: skip
"""What is the same, whatever the order of what it is given."""
_CALLS_BACK = ("builtins.", "functools.", "itertools.", "collections.", "heapq.", "bisect.")
_SHOWN = 50
Spot = tuple[int, int, Rule, str]
"""A line and a column from 1, the rule, and what breaks it, in the source's words."""


def changed_names(scope: Scope, node: ast.AST) -> Iterator[ast.Name]:
    """The names whose value ``node`` itself changes: by giving them another one, or in its place."""
    targets: list[ast.expr] = []
    match node:
        case ast.Assign() | ast.Delete():
            targets = node.targets
        case ast.AugAssign() | ast.AnnAssign():
            targets = [node.target]
        case ast.Call(func=ast.Attribute() as method) if method.attr in rules.CHANGES:
            root = _root(method.value)
            owner = None if root is None else scope.owner(root.id)
            if root is not None and owner is not None and owner.is_container(root.id):
                yield root
        case ast.Call(args=[ast.Name() as given, *_]) if scope.dotted(node.func) == "builtins.next":
            yield given
        case _:
            return
    for target in targets:
        for each in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
            root = _root(each)
            if root is not None and (root is not each or root.id in scope.globals | scope.nonlocals):
                yield root


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What a function consists of, without the functions in it."""
    todo = list(ast.iter_child_nodes(function))
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo.extend(ast.iter_child_nodes(node))


def _root(node: ast.expr) -> ast.Name | None:
    """The name that an attribute or an item begins at."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node if isinstance(node, ast.Name) else None


class Judge(ast.NodeVisitor):
    """Judges one function. ``spots``: what it has found; ``reached``: the functions that run with it."""

    def __init__(self, source: Source, function: Judged, inside: set[Scope], changed: set[tuple[Scope, str]]) -> None:
        self.source, self.function, self.scope = source, function, function.scope
        self.inside, self.changed = inside, changed
        self.spots: list[Spot] = []
        self.reached: list[Judged] = []
        self._unordered: set[ast.AST] = set()
        body = function.node.body
        for each in body if isinstance(body, list) else [body]:
            self.visit(each)

    def _say(self, node: ast.expr, rule: Rule, name: str | None = None) -> None:
        text = name or ast.unparse(node)
        text = " ".join(text.split())
        text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
        self.spots.append((node.lineno, node.col_offset + 1, rule, text))

    def _reach(self, function: ast.expr) -> None:
        found = self.source.called(function, self.scope, self.function.cls)
        if found is not None:
            self.reached.append(found)

    def _outside(self, name: str) -> Scope | None:
        """The scope outside of the run that holds ``name``; None for what the handler itself has, and for builtins."""
        owner = self.scope.owner(name)
        return None if owner is None or owner in self.inside else owner

    # --- definitions: only what runs where they stand ---------------------------------------------------------------
    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:  # ast's name
        """Its decorators and defaults run here, its body where it is called."""
        self._define(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:  # ast's name
        """As a plain one."""
        self._define(node)

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for each in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if each is not None:
                self.visit(each)

    def visit_Lambda(self, node: ast.Lambda) -> None:  # ast's name
        """Its body runs where it is called."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # ast's name
        """An annotation does nothing."""
        self._changes(node)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    # --- sets ------------------------------------------------------------------------------------------------------
    def visit_For(self, node: ast.For) -> None:  # ast's name
        """What a loop goes over has an order."""
        self._ordered(node.iter)
        self.generic_visit(node)

    def _comprehension(self, node: ast.ListComp | ast.DictComp | ast.GeneratorExp | ast.SetComp) -> None:
        if not isinstance(node, ast.SetComp) and node not in self._unordered:
            for each in node.generators:
                self._ordered(each.iter)
        self.generic_visit(node)

    visit_ListComp = visit_DictComp = visit_GeneratorExp = visit_SetComp = _comprehension  # noqa: N815  # ast's names

    def visit_List(self, node: ast.List | ast.Tuple) -> None:  # ast's name
        """What is spread into a list has the set's order."""
        self._spread(node.elts)
        self.generic_visit(node)

    visit_Tuple = visit_List  # noqa: N815  # ast's name

    def visit_FormattedValue(self, node: ast.FormattedValue) -> None:  # ast's name
        """A set in a text stands in its order."""
        self._ordered(node.value)
        self.generic_visit(node)

    def _spread(self, items: list[ast.expr]) -> None:
        for each in items:
            if isinstance(each, ast.Starred):
                self._ordered(each.value)

    def _ordered(self, node: ast.expr) -> None:
        if self.scope.is_set(node):
            self._say(node, rules.SET)

    # --- state -----------------------------------------------------------------------------------------------------
    def visit_Assign(self, node: ast.Assign) -> None:  # ast's name
        """Names outside of the run that are changed; sets that are taken apart."""
        self._changes(node)
        if any(isinstance(target, (ast.Tuple, ast.List)) for target in node.targets):
            self._ordered(node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:  # ast's name
        """As an assignment."""
        self._changes(node)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:  # ast's name
        """As an assignment."""
        self._changes(node)
        self.generic_visit(node)

    def _changes(self, node: ast.AST) -> None:
        for name in changed_names(self.scope, node):
            if self._outside(name.id) is not None and rule_of(self.scope.dotted(name) or "") is None:
                self._say(name, rules.STATE)

    def visit_Name(self, node: ast.Name) -> None:  # ast's name
        """State that some function changes, and what belongs to another loop, are not read in a handler."""
        if not isinstance(node.ctx, ast.Load):
            return
        if self.scope.dotted(node) in _DATA:
            self._say(node, rules.SURROUNDINGS)
        outside = self._outside(node.id)
        if outside is None:
            return
        if (outside, node.id) in self.changed:
            self._say(node, rules.STATE)
        elif self.scope.maker(node) in rules.LOOP_OBJECTS:
            self._say(node, rules.FOREIGN)

    def visit_Attribute(self, node: ast.Attribute) -> None:  # ast's name
        """Surroundings that are read without a call."""
        if self.scope.dotted(node) in _DATA:
            self._say(node, rules.SURROUNDINGS)
        else:
            self.visit(node.value)

    # --- calls -----------------------------------------------------------------------------------------------------
    def visit_Await(self, node: ast.Await) -> None:  # ast's name
        """A promise of JavaScript's is no future of the handler's loop."""
        awaited = node.value
        dotted = self.scope.dotted(awaited.func) if isinstance(awaited, ast.Call) else None
        if dotted is not None and dotted.startswith("js.") and rule_of(dotted) is None:
            self._say(awaited, rules.FOREIGN)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:  # ast's name
        """What is called, with what, and which functions run by it."""
        if isinstance(node.func, ast.Attribute) and self._is_ctx(node.func.value):
            self._context_call(node, node.func.attr)
            return
        dotted = self.scope.dotted(node.func)
        self._judge_call(node, dotted)
        self._changes(node)
        self._sets(node, dotted)
        self._reach(node.func)
        begins, factories = self.source.made(node.func, self.scope)
        self.reached += begins
        for each in factories:
            rule = rule_of(self.scope.module.dotted(each) or "")
            if rule is not None:
                self._say(node, rule, ast.unparse(each))
        if dotted is not None and dotted.startswith(_CALLS_BACK):
            for each in (*node.args, *(keyword.value for keyword in node.keywords)):
                self._called_back(each)
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "sort":
            for keyword in node.keywords:
                self._called_back(keyword.value)
        self.generic_visit(node)

    def _called_back(self, function: ast.expr) -> None:
        """A function that is given to what calls it at once."""
        self._reach(function)
        if isinstance(function, (ast.Name, ast.Attribute)):
            rule = rule_of(self.scope.dotted(function) or "")
            if rule is not None and self.scope.dotted(function) not in _DATA:
                self._say(function, rule)

    def _is_ctx(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self.source.contexts
        return isinstance(node, ast.Attribute) and node.attr.lstrip("_") == "ctx"

    def _context_call(self, node: ast.Call, verb: str) -> None:
        """What is given to ``ctx`` is evaluated here; the functions among it run elsewhere, but for some."""
        if verb in ("map", "on_update"):
            for each in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(each, (ast.Name, ast.Attribute, ast.Lambda)):
                    self._reach(each)
        if verb == "map":
            for each in node.args[1:]:
                self._ordered(each)
        self._spread(node.args)
        for each in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(each, ast.Call) and self.scope.dotted(each.func) == "functools.partial":
                for given in (*each.args[1:], *(keyword.value for keyword in each.keywords)):
                    self.visit(given)
            else:
                self.visit(each)

    def _judge_call(self, node: ast.Call, dotted: str | None) -> None:
        called = f"{' '.join(ast.unparse(node.func).split())}()"
        given = [*node.args, *node.keywords]
        if dotted is not None:
            if rules.CLOCKS_WITHOUT.get(dotted, -1) >= len(given):
                self._say(node, rules.CLOCK, called)
            rule = rule_of(dotted)
            if dotted in rules.CLIENTS or _within_data(dotted) or rules.is_seeded(dotted, given):
                rule = None
            if rule is not None:
                self._say(node, rule, called)
            if dotted in ("builtins.id", "builtins.hash"):
                self._say(node, rules.IDENTITY, called)
            return
        if not isinstance(node.func, ast.Attribute):
            return
        maker = self.scope.maker(node.func.value)
        if maker in rules.PATHS and node.func.attr in rules.PATH_IO:
            self._say(node, rules.IO, called)
        elif maker in rules.LOOPS and node.func.attr in rules.LOOP_CALLS:
            self._say(node, rules.FOREIGN, called)
        else:
            self._foreign_object(node, called)

    def _foreign_object(self, node: ast.Call, called: str) -> None:
        """A method of what was made outside of the handler: a client, a generator of random numbers."""
        method = node.func
        if isinstance(method, ast.Attribute) and self.scope.maker(method.value) in rules.CLIENTS:
            self._say(node, rules.FOREIGN, called)
            return
        root = _root(node.func)
        if root is None:
            return
        maker = self.scope.maker(root)
        if maker in rules.CLIENTS:
            self._say(node, rules.FOREIGN, called)
            return
        owner = self.scope.owner(root.id)
        if owner is None or (owner in self.inside and any(owner.bound.get(root.id, []))):
            return  # it was made in the handler, and that was found
        rule = rule_of(maker or "")
        if rule is rules.RANDOM and maker in rules.SEEDED:
            values = owner.bound.get(root.id, [])
            seeded = any(isinstance(value, ast.Call) and (value.args or value.keywords) for value in values)
            rule = rules.STATE if seeded else rule if values and any(values) else None
        if rule is not None and rule in (rules.FOREIGN, rules.IO, rules.RANDOM, rules.STATE):
            self._say(node, rule, called)

    def _sets(self, node: ast.Call, dotted: str | None) -> None:
        if dotted in _UNORDERED:
            self._unordered.update(node.args)
            return
        self._spread(node.args)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if isinstance(node.func, ast.Attribute) and method == "pop" and not node.args:
            self._ordered(node.func.value)
        if dotted in _ORDERED or method in ("join", "extend", "extendleft", "from_iterable"):
            for each in node.args:
                self._ordered(each)


def _within_data(dotted: str) -> bool:
    """Whether it is a method of surroundings that are found where they are read."""
    return any(dotted.startswith(f"{name}.") for name in _DATA)
