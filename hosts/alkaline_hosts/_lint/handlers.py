"""Which functions of a source are judged: handlers, and what they call outside of steps, in their project."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import NamedTuple

from .names import FunctionNode, Scope, type_of

_WORKFLOW = ("alkaline_edge.workflow", "alkaline_edge.workflows.workflow")
_CONTEXT = ("alkaline_edge.Context", "alkaline_edge.context.Context")
_PLAIN = ("functools.", "contextlib.", "typing.", "builtins.staticmethod", "builtins.classmethod", "builtins.property")
"""Decorators behind which a function is still what is called."""


class Judged(NamedTuple):
    """A function to judge: its own names, the class and the source it stands in."""

    node: FunctionNode
    scope: Scope
    cls: Scope | None
    source: Source


class Source:
    """A parsed module: every scope in it, and which of its functions are handlers.

    ``elsewhere`` finds the function of another module that a dotted name of this one stands for, where it is one.
    """

    def __init__(self, tree: ast.Module, elsewhere: Callable[[str], Judged | None] = lambda _: None) -> None:
        self.scope, self._elsewhere = Scope(tree), elsewhere
        self.functions: dict[ast.AST, Judged] = {}
        self.contexts: set[str] = {"ctx"}
        self.decorators: set[ast.AST] = set()
        """Functions that decorate others, and those in them: they run when a module is imported."""
        self._within(tree, self.scope, None)
        for function in list(self.functions.values()):
            self._note_decorators(function)
        self.handlers = [each for each in self.functions.values() if self._is_handler(each)]

    def _within(self, node: ast.AST, scope: Scope, cls: Scope | None) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                inner = Scope(child, scope)
                self.functions[child] = Judged(child, inner, cls, self)
                self._within(child, inner, None)
            elif isinstance(child, ast.ClassDef):
                inner = Scope(child, scope)
                self._within(child, inner, inner)
            else:
                self._within(child, scope, cls)

    def _note_decorators(self, function: Judged) -> None:
        if isinstance(function.node, ast.Lambda):
            return
        around = function.scope.parent or function.scope
        for each in function.node.decorator_list:
            named = each.func if isinstance(each, ast.Call) else each
            owner = around.owner(named.id) if isinstance(named, ast.Name) else None
            decorator = owner.functions.get(named.id) if owner is not None and isinstance(named, ast.Name) else None
            if decorator is not None:
                self.decorators.add(decorator)
                body = decorator.body if isinstance(decorator.body, list) else []
                self.decorators.update(inner for inner in body if inner in self.functions)

    def _is_handler(self, function: Judged) -> bool:
        node = function.node
        if isinstance(node, ast.Lambda):
            return False
        around = function.scope.parent
        assert around is not None
        named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        typed = [arg for arg in named if _is_context(type_of(around, arg.annotation), arg.arg)]
        self.contexts.update(arg.arg for arg in typed)
        if any(self._makes_a_workflow(each, around, node) for each in node.decorator_list):
            first = [arg for arg in named if arg.arg not in ("self", "cls")][:1]
            self.contexts.update(arg.arg for arg in first)
            return True
        return bool(typed)

    def _makes_a_workflow(self, decorator: ast.expr, around: Scope, node: ast.AST) -> bool:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        found = around.dotted(named)
        if found in _WORKFLOW:
            return True
        last = ast.unparse(named).rpartition(".")[2]
        ours = found is None or found.startswith(".")  # imported from the user's own modules, or by a star
        return last == "workflow" and ours and isinstance(node, ast.AsyncFunctionDef)

    def called(self, function: ast.expr, scope: Scope, cls: Scope | None) -> Judged | None:
        """The function of the project that ``function`` is, where it is one, and nothing else wraps it."""
        node: ast.AST | None = None
        if isinstance(function, ast.Lambda):
            node = function
        elif isinstance(function, ast.Name):
            owner = scope.owner(function.id)
            node = None if owner is None else owner.functions.get(function.id)
        elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            node = self._method(function.value.id, function.attr, scope, cls)
        if node is None:
            dotted = scope.dotted(function)
            return None if dotted is None else self._elsewhere(dotted)
        return self._plain(node)

    def function(self, name: str) -> Judged | None:
        """The function of the module that is called so, as another one imports it."""
        node = self.scope.functions.get(name)
        return None if node is None or self.scope.bound.get(name) else self._plain(node)

    def _plain(self, node: ast.AST) -> Judged | None:
        if node not in self.functions:
            return None
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            around = self.functions[node].scope.parent or self.scope
            for each in node.decorator_list:
                named = each.func if isinstance(each, ast.Call) else each
                if not (around.dotted(named) or "").startswith(_PLAIN):
                    return None
        return self.functions[node]

    def made(self, function: ast.expr, scope: Scope) -> tuple[list[Judged], list[ast.expr]]:
        """What runs where ``function`` is a class of this source: its methods for that, and its fields' factories."""
        owner = scope.owner(function.id) if isinstance(function, ast.Name) else None
        cls = owner.classes.get(function.id) if owner is not None and isinstance(function, ast.Name) else None
        begins: list[Judged] = []
        factories: list[ast.expr] = []
        for each in cls.body if cls is not None else []:
            if each in self.functions and getattr(each, "name", "") in ("__init__", "__post_init__", "__new__"):
                begins.append(self.functions[each])
            if isinstance(each, ast.AnnAssign) and isinstance(each.value, ast.Call):
                factories += [word.value for word in each.value.keywords if word.arg == "default_factory"]
        return begins, factories

    def _method(self, name: str, method: str, scope: Scope, cls: Scope | None) -> ast.AST | None:
        if name in ("self", "cls"):
            return None if cls is None else cls.functions.get(method)
        owner = scope.owner(name)
        if owner is None:
            return None
        made = owner.classes.get(name)
        if made is None:
            found = scope.class_of(ast.Name(name))
            made = None if found is None else found[0]
        if made is None:
            return None
        return next(
            (each for each in made.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
             and each.name == method), None,
        )  # fmt: skip


def _is_context(found: str | None, parameter: str) -> bool:
    if found in _CONTEXT:
        return True
    return parameter == "ctx" and found is not None and (found == "Context" or found.startswith("."))
