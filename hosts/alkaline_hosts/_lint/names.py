"""What the names of a source stand for: imports, functions, and what made the value that a name holds."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from .rules import CONTAINERS, PATHS

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_SETS = {"builtins.set", "builtins.frozenset"}
_SET_TYPES = {
    "builtins.set", "builtins.frozenset", "typing.Set", "typing.FrozenSet", "typing.AbstractSet", "collections.abc.Set",
    "typing.MutableSet", "collections.abc.MutableSet",
}  # fmt: skip
_SET_METHODS = {"union", "intersection", "difference", "symmetric_difference", "copy"}
_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
_PATH_PARTS = {"parent", "with_suffix", "with_name", "with_stem", "joinpath", "relative_to", "with_segments"}
_DEEP = 12


class Scope:
    """The names that a module, a function or a class binds. ``bound``: the values of each, None where not known."""

    def __init__(self, node: ast.AST, parent: Scope | None = None) -> None:
        self.node, self.parent = node, parent
        self.imports: dict[str, str] = {}
        self.bound: dict[str, list[ast.expr | None]] = {}
        self.typed: dict[str, ast.expr] = {}
        self.functions: dict[str, FunctionNode] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.parameters: set[str] = set()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            self._parameters(node.args)
        body = node.body if isinstance(node, (ast.Module, *_SCOPES)) else []
        for each in body if isinstance(body, list) else [body]:
            self._collect(each)
        for name in self.globals | self.nonlocals:
            self.bound.pop(name, None)

    def _parameters(self, given: ast.arguments) -> None:
        for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
            if arg is not None:
                self.parameters.add(arg.arg)
                self.bound.setdefault(arg.arg, []).append(None)
                if arg.annotation is not None and arg not in (given.vararg, given.kwarg):
                    self.typed[arg.arg] = arg.annotation

    def _bind(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            if isinstance(value, ast.Lambda):
                self.functions[target.id] = value
            self.bound.setdefault(target.id, []).append(value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            items = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
            alike = len(items) == len(target.elts)
            for n, each in enumerate(target.elts):
                self._bind(each, items[n] if alike else None)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, None)

    def _collect(self, node: ast.AST) -> None:  # one case a kind of binding
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.functions[node.name] = node
                return
            case ast.ClassDef():
                self.classes[node.name] = node
                return
            case ast.Lambda():
                return
            case ast.Import():
                for alias in node.names:
                    self.imports[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            case ast.ImportFrom():
                for alias in node.names:
                    of = f"{node.module}." if node.module else ""
                    self.imports[alias.asname or alias.name] = f"{'.' * node.level}{of}{alias.name}"
            case ast.Assign():
                for target in node.targets:
                    self._bind(target, node.value)
            case ast.AnnAssign(target=ast.Name()):
                self.typed[node.target.id] = node.annotation  # type: ignore[union-attr]  # the case says so
                self._bind(node.target, node.value)
            case ast.NamedExpr():
                self._bind(node.target, node.value)
            case ast.AugAssign(target=ast.Name()):
                self.bound.setdefault(node.target.id, [])  # type: ignore[union-attr]  # the case says so
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                self._bind(node.target, None)
            case ast.withitem(optional_vars=ast.expr()):
                self._bind(node.optional_vars, node.context_expr)  # type: ignore[arg-type]  # the case says so
            case ast.ExceptHandler(name=str()):
                self.bound.setdefault(str(node.name), []).append(None)
            case ast.MatchAs(name=str()) | ast.MatchStar(name=str()):
                self.bound.setdefault(str(node.name), []).append(None)
            case ast.Global():
                self.globals.update(node.names)
            case ast.Nonlocal():
                self.nonlocals.update(node.names)
            case _:
                pass
        for child in ast.iter_child_nodes(node):
            self._collect(child)

    @property
    def chain(self) -> Iterator[Scope]:
        """This scope and those around it, as Python looks names up: a class is seen from its own body alone."""
        scope: Scope | None = self
        while scope is not None:
            if scope is self or not isinstance(scope.node, ast.ClassDef):
                yield scope
            scope = scope.parent

    def owner(self, name: str) -> Scope | None:
        """The scope in which ``name`` stands for something; None for a builtin, and for what is not known."""
        for scope in self.chain:
            if name in scope.globals:
                return scope.module
            if any(name in names for names in (scope.bound, scope.imports, scope.functions, scope.classes)):
                return scope
        return None

    @property
    def module(self) -> Scope:
        """The outermost one."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    # --- what an expression stands for ------------------------------------------------------------------------------
    def dotted(self, node: ast.expr | None, deep: int = 0) -> str | None:
        """The dotted name that ``node`` refers to, as it is imported; None for a value that something has made."""
        if deep > _DEEP:
            return None
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value, deep + 1)
            return None if base is None else f"{base}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        owner = self.owner(node.id)
        if owner is None:
            return f"builtins.{node.id}" if hasattr(builtins, node.id) else None
        values = owner.bound.get(node.id, [])
        if node.id in owner.imports and not any(values):
            return owner.imports[node.id]
        if len(values) == 1 and isinstance(values[0], (ast.Name, ast.Attribute)) and values[0] is not node:
            return owner.dotted(values[0], deep + 1)
        return None

    def maker(self, node: ast.expr | None, deep: int = 0) -> str | None:
        """The dotted name of what has made the value of ``node``: its class, or a function; None where not known."""
        if deep > _DEEP or node is None:
            return None
        match node:
            case ast.Call():
                made = self.dotted(node.func)
                if made is None and isinstance(node.func, ast.Attribute) and node.func.attr in _PATH_PARTS:
                    return self._path(node.func.value, deep)
                return made
            case ast.Await():
                return self.maker(node.value, deep + 1)
            case ast.BinOp(op=ast.Div()):
                return self._path(node.left, deep)
            case ast.Attribute() if node.attr in _PATH_PARTS:
                return self._path(node.value, deep)
            case ast.Dict() | ast.DictComp():
                return "builtins.dict"
            case ast.List() | ast.ListComp():
                return "builtins.list"
            case ast.Set() | ast.SetComp():
                return "builtins.set"
            case ast.Name():
                owner = self.owner(node.id)
                if owner is None:
                    return None
                if node.id in owner.typed and not any(owner.bound.get(node.id, [])):
                    return owner.dotted(_type(owner.typed[node.id]))
                values = owner.bound.get(node.id, [])
                makers = {owner.maker(value, deep + 1) for value in values if value is not node}
                return makers.pop() if len(makers) == 1 else None
        return None

    def _path(self, node: ast.expr, deep: int) -> str | None:
        made = self.maker(node, deep + 1)
        return made if made in PATHS else None

    def is_set(self, node: ast.expr | None, deep: int = 0) -> bool:
        """Whether ``node`` is a set, as far as its source says."""
        if deep > _DEEP or node is None:
            return False
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call():
                if self.dotted(node.func) in _SETS:
                    return True
                method = node.func
                return (
                    isinstance(method, ast.Attribute)
                    and method.attr in _SET_METHODS
                    and self.is_set(method.value, deep + 1)
                )
            case ast.BinOp():
                if not isinstance(node.op, _SET_OPERATORS):
                    return False
                return any(self.is_set(side, deep + 1) or _is_view(side) for side in (node.left, node.right))
            case ast.IfExp():
                return self.is_set(node.body, deep + 1) or self.is_set(node.orelse, deep + 1)
            case ast.NamedExpr():
                return self.is_set(node.value, deep + 1)
            case ast.Attribute():
                return self._is_set_field(node)
            case ast.Name():
                owner = self.owner(node.id)
                if owner is None:
                    return False
                values = owner.bound.get(node.id, [])
                if node.id in owner.typed and owner.dotted(_type(owner.typed[node.id])) in _SET_TYPES:
                    return True
                return bool(values) and all(owner.is_set(value, deep + 1) for value in values)
        return False

    def _is_set_field(self, node: ast.Attribute) -> bool:
        """Whether a class of this source says that its field is a set."""
        found = self.class_of(node.value)
        if found is None:
            return False
        return any(
            isinstance(each, ast.AnnAssign)
            and isinstance(each.target, ast.Name)
            and each.target.id == node.attr
            and found[1].dotted(_type(each.annotation)) in _SET_TYPES
            for each in found[0].body
        )

    def class_of(self, node: ast.expr) -> tuple[ast.ClassDef, Scope] | None:
        """The class of this source that has made the value of ``node``, and where it stands."""
        if not isinstance(node, ast.Name) or (owner := self.owner(node.id)) is None:
            return None
        values = owner.bound.get(node.id, [])
        maker: ast.expr | None = owner.typed.get(node.id)
        if maker is not None:
            maker = _type(maker)
        elif len(values) == 1 and isinstance(values[0], ast.Call):
            maker = values[0].func
        if not isinstance(maker, ast.Name) or (around := owner.owner(maker.id)) is None:
            return None
        made = around.classes.get(maker.id)
        return None if made is None else (made, around)

    def is_declared_only(self, name: str) -> bool:
        """Whether ``name`` has a type here and no value: whoever begins the process gives it one, such as a runtime."""
        return name in self.typed and name not in self.parameters and not any(self.bound.get(name, []))

    def is_container(self, name: str) -> bool:
        """Whether ``name`` is bound here to something that is changed in its place."""
        return any(self.maker(value) in CONTAINERS for value in self.bound.get(name, []))


def _type(annotation: ast.expr) -> ast.expr:
    """The class of an annotation: of ``set[str]`` it is set, of a text what it says, of ``X | None`` X."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return annotation
    if isinstance(annotation, ast.BinOp):
        annotation = annotation.left
    return annotation.value if isinstance(annotation, ast.Subscript) else annotation


def type_of(scope: Scope, annotation: ast.expr | None) -> str | None:
    """The dotted name of an annotation's class; the name alone where it is not known what it stands for."""
    if annotation is None:
        return None
    named = _type(annotation)
    return scope.dotted(named) or (ast.unparse(named) if isinstance(named, (ast.Name, ast.Attribute)) else None)


def _is_view(node: ast.expr) -> bool:
    """``d.keys()`` and ``d.items()``: what operators make of these is a set."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")
