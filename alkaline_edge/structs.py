"""``NamedTuple``, ``dataclass`` and ``Protocol`` for a package whose import must be quick.

Python's own write the methods of each class as source and compile it: 1 to 3 ms a class under Pyodide, which for the
classes here came to most of the time that ``import alkaline_edge`` took. These do the same for what is used here,
with methods that are compiled already; type checkers are told that they are Python's own. Making an instance of such
a dataclass costs about a microsecond more, so a class that is made for every step writes its ``__init__`` itself.

Differences: annotations must be strings (``from __future__ import annotations``), a dataclass always has slots and
inherits no fields, and ``field`` takes a ``default_factory`` alone. ``dataclasses.replace``, ``asdict``, ``fields`` and
``copy`` work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass, field
    from typing import Any, Generic, NamedTuple, Protocol, runtime_checkable

    from typing_extensions import TypeVar

    In = TypeVar("In", default=Any)
    Out = TypeVar("Out", default=Any)

    class TypedOut(Generic[Out]):
        """What type checkers know to give an ``Out``."""

    class TypedInOut(Generic[In, Out]):
        """What type checkers know to take an ``In`` and to give an ``Out``."""
else:
    In = Out = None

    from collections import _tuplegetter  # what namedtuple itself reads a field with, in C
    from operator import itemgetter

    class TypedOut:
        """For type checkers alone: ``Run[str]`` is ``Run``."""

        __slots__ = ()

        def __class_getitem__(cls, _):
            return cls

    TypedInOut = TypedOut

    class _TupleType(type):
        """Makes the classes of named tuples."""

        def __new__(mcls, name, bases, space):
            fields = tuple(space.get("__annotations__", ()))
            for index, each in enumerate(fields):
                if each in space:
                    space.setdefault("_field_defaults", {})[each] = space[each]
                space[each] = _tuplegetter(index, None)
            space.update(__slots__=(), _fields=fields, __match_args__=fields)
            return super().__new__(mcls, name, bases, space)

    class NamedTuple(tuple, metaclass=_TupleType):
        """As typing.NamedTuple."""

        _field_defaults = {}  # noqa: RUF012  # never written to, as in namedtuple

        def __new__(cls, *items, **named):  # noqa: D102  # not a name of the API
            if named or len(items) != len(cls._fields):
                items = _complete(cls, cls._fields, cls._field_defaults, items, named)
            return tuple.__new__(cls, items)

        @classmethod
        def _make(cls, items):
            made = tuple.__new__(cls, items)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} takes {len(cls._fields)} values, not {len(made)}")
            return made

        def _replace(self, **named):
            return type(self)(**{**self._asdict(), **named})

        __replace__ = _replace

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            held = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({held})"

        def __getnewargs__(self):
            return tuple(self)

    def _complete(cls, fields, defaults, items, named, factories=(), pick=None):
        """The value of each field, from what was given and what is the default. ``pick`` takes them out of a map."""
        if len(items) > len(fields):
            raise TypeError(f"{cls.__name__} takes {len(fields)} values: {', '.join(fields)}; {len(items)} were given")
        found = {**defaults, **dict(zip(fields, items, strict=False)), **named} if items else {**defaults, **named}
        for name in factories:
            if name not in found:
                found[name] = factories[name]()
        if pick is not None and not items and len(found) == len(fields):  # as most records are: given by name
            try:
                return pick(found)
            except KeyError:
                pass  # it is said below
        _refuse(cls, fields, items, named)
        for name in fields:
            if name not in found:
                raise TypeError(f"{cls.__name__} wants a value for {name}")
        return [found[name] for name in fields]

    def _refuse(cls, fields, items, named):
        """TypeError for a name that is no field, or whose value is among ``items``."""
        for name in named:
            if name in fields[: len(items)] or name not in fields:
                why = "was given twice" if name in fields else "is not one of its fields"
                raise TypeError(f"{cls.__name__}: {name} {why}; they are {', '.join(fields)}")

    class field:  # noqa: N801  # the name that dataclasses gives it
        """As dataclasses.field, with a default_factory."""

        def __init__(self, *, default_factory):
            self.default_factory = default_factory

    class _ShapeType(type):
        """Makes the classes of protocols, and what derives from one."""

        def __instancecheck__(cls, one):
            """Of a protocol, what has all that it names: a derived class that only derives has more."""
            if Protocol not in cls.__bases__:
                return type.__instancecheck__(cls, one)
            return all(hasattr(one, name) for name in vars(cls) if not name.startswith("_"))

    class Protocol(metaclass=_ShapeType):
        """As typing.Protocol, which looks through each class at once for what isinstance may ask of it later."""

        __slots__ = ()

    def runtime_checkable(cls):
        """As typing.runtime_checkable: every Protocol from here is."""
        return cls

    def dataclass(*, frozen=False, slots=True, eq=True):
        """As dataclasses.dataclass(slots=True)."""
        assert slots, "a class without slots is not made here"
        return lambda cls: _with_slots(cls, frozen, eq)

    def _with_slots(cls, frozen, eq):
        space = dict(cls.__dict__)
        fields = tuple(
            name for name, kind in space.get("__annotations__", {}).items() if not kind.startswith("ClassVar")
        )
        defaults, factories = {}, {}
        for name in fields:
            if name in space:
                value = space.pop(name)
                if type(value) is field:
                    factories[name] = value.default_factory
                else:
                    defaults[name] = value
        for name in ("__dict__", "__weakref__"):
            space.pop(name, None)
        space.update(__slots__=fields, __match_args__=fields)
        space["__dataclass_fields__"] = _Described(fields, defaults, factories)
        methods = {"__repr__": _repr, "__replace__": _replaced, "__getstate__": _state, "__setstate__": _set_state}
        if eq:
            methods["__eq__"] = _equal
            space["__hash__"] = _hash if frozen else None
        if frozen:
            methods.update(__setattr__=_frozen, __delattr__=_frozen)
        for name, method in methods.items():
            space.setdefault(name, method)
        made = type(cls)(cls.__name__, cls.__bases__, space)
        if "__init__" not in space:
            made.__init__ = _init_of(made, fields, defaults, factories, space.get("__post_init__"))
        return made

    def _init_of(cls, fields, defaults, factories, then):
        setters = [getattr(cls, name).__set__ for name in fields]  # these are not held up by a frozen __setattr__
        count = len(fields)
        wanted = count - len(defaults) if not factories else count
        last = tuple(defaults.values())
        pick = itemgetter(*fields) if count > 1 else None  # of one name it gives no tuple

        def __init__(self, *items, **named):  # noqa: N807  # put into the class below
            given = len(items)
            if named or given != count:
                if named or given < wanted or given > count:
                    items = _complete(cls, fields, defaults, items, named, factories, pick)
                else:
                    items += last[given - wanted :]
            for put, value in zip(setters, items):  # noqa: B905  # as many, by what stands above
                put(self, value)
            if then is not None:
                then(self)

        return __init__

    def _state(self):
        return [getattr(self, name) for name in self.__slots__]

    def _set_state(self, values):
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def _repr(self):
        held = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__qualname__}({held})"

    def _replaced(self, **named):
        return type(self)(**{name: named.pop(name, getattr(self, name)) for name in self.__slots__}, **named)

    def _equal(self, other):
        return _state(self) == _state(other) if type(other) is type(self) else NotImplemented

    def _hash(self):
        return hash(tuple(_state(self)))

    def _frozen(self, name, *value):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"{type(self).__name__} is frozen; make another one with dataclasses.replace")

    class _Described:
        """``__dataclass_fields__``, made when the functions of dataclasses first ask for it."""

        def __init__(self, *described):
            self.described = described

        def __get__(self, instance, cls):
            import dataclasses

            fields, defaults, factories = self.described
            given = {name: {"default": value} for name, value in defaults.items()}
            given |= {name: {"default_factory": make} for name, make in factories.items()}
            kinds = [(name, cls.__annotations__[name], dataclasses.field(**given.get(name, {}))) for name in fields]
            cls.__dataclass_fields__ = dataclasses.make_dataclass(cls.__name__, kinds).__dataclass_fields__
            return cls.__dataclass_fields__


__all__ = [
    "In", "NamedTuple", "Out", "Protocol", "TypedInOut", "TypedOut", "dataclass", "field", "runtime_checkable",
]  # fmt: skip
