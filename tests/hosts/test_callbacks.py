"""CallbackHost: every calling convention, every shape of answer, and what becomes of a wrong one."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alkaline_edge import Runtime, workflow
from alkaline_edge.errors import ClosedError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Capabilities, Check, Committed, Conflict, Entry, Put
from alkaline_hosts.callbacks import CallbackHost
from alkaline_hosts.memory import MemoryStore

ID = "0123456789abcdef"


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return asyncio.run(main())


def returning(answer: Any) -> Callable[..., Any]:
    return lambda *args: answer


def host_of(**given: Any) -> CallbackHost:
    """A host whose callables answer nothing, but for those given."""
    return CallbackHost(**{"get": returning([None]), "list": returning([]), "commit": returning(True), **given})


class Backing:
    """Plain callables over a store in memory, as a user would write them, and what they were called with."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.calls: list[tuple[Any, ...]] = []

    def get(self, keys: list[str]) -> list[Any]:
        self.calls.append(("get", keys))
        return [self.store.entries.get(key) for key in keys]

    def list(self, prefix: str, after: str, limit: int) -> Any:
        self.calls.append(("list", prefix, after, limit))
        return [entry._asdict() for entry in self.store.under(prefix, after, limit)]

    def commit(self, batch: dict[str, Any]) -> Any:
        self.calls.append(("commit", batch))
        outcome = self.store.apply(
            Batch(
                batch["id"],
                tuple(Check(*check) for check in batch["checks"]),
                tuple(Put(*put) for put in batch["puts"]),
                tuple(batch["deletes"]),
            )
        )
        return {"conflict": list(outcome.keys)} if isinstance(outcome, Conflict) else {"committed": True}

    def host(self, **given: Any) -> CallbackHost:
        return CallbackHost(get=self.get, list=self.list, commit=self.commit, **given)


def test_what_callables_are_given() -> None:
    """Lists, texts and one dict: nothing of the kernel's types, None for absent, bytes as a copy."""
    backing = Backing()
    host = backing.host()
    value = bytearray(b"x")
    run(host.commit(Batch(ID, (Check("a", None), Check("b", None)), (Put("a", value),), ("c",))))
    run(host.get(iter(["a", "b"])))
    run(host.list("a", "", 7))
    assert backing.calls == [
        ("commit", {"id": ID, "checks": [["a", None], ["b", None]], "puts": [["a", b"x"]], "deletes": ["c"]}),
        ("get", ["a", "b"]),
        ("list", "a", "", 7),
    ]
    batch = backing.calls[0][1]
    assert type(batch["checks"][0]) is list
    assert type(batch["puts"][0][1]) is bytes


@pytest.mark.parametrize(
    "entry",
    [
        Entry("k", b"v", "1"),
        {"key": "k", "value": bytearray(b"v"), "version": "1"},
        ["k", memoryview(b"v"), "1"],
        ("k", b"v", "1"),
        types.SimpleNamespace(key="k", value=b"v", version="1"),
        types.SimpleNamespace(to_py=lambda: {"key": "k", "value": memoryview(b"v"), "version": "1"}),
        {"key": "k", "value": types.SimpleNamespace(to_py=lambda: memoryview(b"v")), "version": "1"},
        {"key": "k", "value": types.SimpleNamespace(to_bytes=lambda: b"v"), "version": "1"},
    ],
)
def test_shapes_of_an_entry(entry: Any) -> None:
    """An entry may be an Entry, a mapping, a sequence of three or an object; its value any buffer or proxy."""
    host = host_of(get=returning([entry]), list=returning((entry,)))
    for found in (run(host.get(["k"])), run(host.list("k"))):
        assert found == [Entry("k", b"v", "1")]
        assert type(found[0].value) is bytes


class JsNull:
    """Stands for Pyodide's jsnull."""


def test_null_is_absent() -> None:
    """None, and JavaScript's null and undefined, say that there is no entry."""
    host = host_of(get=returning([None, JsNull()]))
    assert run(host.get(["a", "b"])) == [None, None]


@pytest.mark.parametrize("answer", [True, {"committed": True}, Committed(ID)])
def test_shapes_of_committed(answer: Any) -> None:
    """True, a mapping that says so, and Committed are a commit, with the batch's id as its version."""
    assert run(host_of(commit=returning(answer)).commit(Batch(ID))) == Committed(ID)


@pytest.mark.parametrize("answer", [{"conflict": ["a"]}, {"committed": False, "conflict": ("a",)}, Conflict(("a",))])
def test_shapes_of_a_conflict(answer: Any) -> None:
    """A mapping with the keys, and Conflict, are a conflict on these keys."""
    batch = Batch(ID, (Check("a", None), Check("b", None)))
    assert run(host_of(commit=returning(answer)).commit(batch)) == Conflict(("a",))


@pytest.mark.parametrize(
    "answer", [None, False, 1, "ok", {}, {"committed": False}, {"ok": True}, [True], Committed("another")]
)
def test_an_answer_that_says_nothing_leaves_the_outcome_unknown(answer: Any) -> None:
    """A commit's answer that can't be understood may hide a success: UnknownOutcome, so that the kernel reads back."""
    with pytest.raises(UnknownOutcome, match="expected True"):
        run(host_of(commit=returning(answer)).commit(Batch(ID)))


@pytest.mark.parametrize("keys", [[], ["other"], "a", 7])
def test_a_conflict_names_what_was_checked(keys: Any) -> None:
    """A conflict on no key, or on one that was not checked, is a StoreError: the callable is wrong."""
    with pytest.raises(StoreError):
        run(host_of(commit=returning({"conflict": keys})).commit(Batch(ID, (Check("a", None),))))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "get returned None; expected a list of 1"),
        ({"k": b"v"}, r"get returned a dict with the keys \['k'\]"),
        ("k", "get returned a str"),
        ([], "get returned 0 items for 1 keys"),
        ([None, None], "get returned 2 items for 1 keys"),
        ([b"v"], "get returned a bytes for an entry; expected an Entry"),
        ([["k", b"v"]], "get returned a list of 2 for an entry"),
        ([{"key": "k", "value": "v", "version": "1"}], r"of the types \(str, str, str\)"),
        ([{"key": "k", "value": b"v"}], r"of the types \(str, bytes, NoneType\)"),
        ([["k", 7, "1"]], r"of the types \(str, int, str\)"),
        ([["other", b"v", "1"]], "in the place of 'k'"),
    ],
)
def test_wrong_answers_of_get(answer: Any, said: str) -> None:
    """A StoreError says what came and what was expected, and never shows a value."""
    with pytest.raises(StoreError, match=said):
        run(host_of(get=returning(answer)).get(["k"]))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["a/2", "a/1"], "order by bytes"),
        (["a/1", "a/1"], "order by bytes"),
        (["a/0"], "after is exclusive"),
        (["b/1"], "for the prefix"),
        (["a/1", "a/2", "a/3", "a/4"], "limit=3"),
    ],
)
def test_wrong_answers_of_list(keys: list[str], said: str) -> None:
    """Keys out of order, repeated, at `after`, outside the prefix, or too many are a StoreError, not a lost entry."""
    host = host_of(list=returning([[key, b"", "1"] for key in keys]))
    with pytest.raises(StoreError, match=said):
        run(host.list("a/", "a/0", 3))


def test_wrong_clock_and_entropy() -> None:
    """A clock that gives no number and entropy of the wrong length are StoreErrors."""
    for wrong in (None, "1", True, float("nan"), returning):
        with pytest.raises(StoreError, match="now_ms returned"):
            host_of(now_ms=returning(wrong)).now_ms()
    for bad in (b"", b"12345", "1234", None):
        with pytest.raises(StoreError, match="entropy"):
            host_of(entropy=returning(bad)).entropy(4)


def test_clock_entropy_and_sleep_that_were_given() -> None:
    """They are used, a float clock is cut to whole milliseconds, and without them the system's are."""
    slept: list[float] = []
    host = host_of(now_ms=returning(1234.9), entropy=lambda n: memoryview(b"x" * n), sleep=slept.append)
    assert (host.now_ms(), host.entropy(3)) == (1234, b"xxx")
    run(host.sleep(2.5))
    assert slept == [2.5]
    assert host_of().now_ms() > 1_700_000_000_000
    assert len(host_of().entropy(5)) == 5
    run(host_of().sleep(0))


def test_close_is_called_once() -> None:
    """close is called and awaited once; every later call is ClosedError and reaches no callable."""
    closed: list[int] = []

    async def close() -> None:
        closed.append(1)

    host = host_of(close=close, get=closed.append, list=closed.append, commit=closed.append)
    run(host.close())
    run(host.close())
    for call in (host.get([]), host.list(""), host.commit(Batch(ID))):
        with pytest.raises(ClosedError):
            run(call)
    assert closed == [1]


def test_limits_are_kept_before_the_call() -> None:
    """Limits and missing checks are refused before a callable hears of the batch."""
    heard: list[Any] = []
    host = host_of(commit=heard.append, capabilities=Capabilities("tiny", conditional=False, max_value=4))
    with pytest.raises(InvalidInput, match="max_value=4"):
        run(host.commit(Batch(ID, (), (Put("a", b"12345"),))))
    with pytest.raises(StoreError, match="tiny has no conditional commits"):
        run(host.commit(Batch(ID, (Check("a", None),))))
    assert heard == []


def test_what_is_no_callable_is_refused() -> None:
    """A missing callable is found when the host is made, by its name."""
    with pytest.raises(InvalidInput, match="as commit="):
        host_of(commit=None)


def test_errors_pass() -> None:
    """What a callable raises comes out as it is: an AlkalineError says that nothing was written."""

    def full(_: Any) -> Any:
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        run(host_of(commit=full).commit(Batch(ID)))


class JsFunction:
    """Stands for a JavaScript function: a callable proxy that wants JavaScript values and returns a promise."""

    js_id, typeof = 1, "function"

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, *args: Any) -> Any:
        async def promise() -> Any:
            return JsValue(self.fn(*args))

        return promise()


class JsValue:
    """Stands for an array or object of JavaScript."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def to_py(self) -> Any:
        return self.value


def test_javascript_functions_get_javascript_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of a JavaScript function go through to_js, dicts as plain objects; its promises are awaited."""
    converted: list[Any] = []

    def to_js(value: Any, *, dict_converter: Any) -> Any:
        assert dict_converter == "fromEntries"
        converted.append(value)
        return JsValue(value)

    monkeypatch.setitem(
        sys.modules, "js", types.SimpleNamespace(Object=types.SimpleNamespace(fromEntries="fromEntries"))
    )
    monkeypatch.setitem(sys.modules, "pyodide", types.ModuleType("pyodide"))
    monkeypatch.setitem(sys.modules, "pyodide.ffi", types.SimpleNamespace(to_js=to_js))
    backing = Backing()
    host = CallbackHost(
        get=JsFunction(lambda keys: backing.get(keys.value)),
        list=JsFunction(backing.list),
        commit=JsFunction(lambda batch: backing.commit(batch.value)),
    )
    batch = Batch(ID, (Check("a", None),), (Put("a", b"v"),))
    assert run(host.commit(batch)) == Committed(ID)
    assert run(host.commit(batch)) == Conflict(("a",))
    assert run(host.get(["a", "b"])) == [Entry("a", b"v", ID), None]
    assert run(host.list("a")) == [Entry("a", b"v", ID)]
    assert ["a", "b"] in converted


def test_a_workflow_runs_on_callbacks() -> None:
    """A runtime works over plain callables, sync or async."""
    backing = Backing()

    async def get(keys: list[str]) -> list[Any]:
        return backing.get(keys)

    @workflow(name="double")
    async def double(ctx: Any, n: int) -> int:
        return await ctx.step("twice", lambda: n * 2)

    async def main() -> int:
        host = CallbackHost(get=get, list=backing.list, commit=backing.commit)
        async with Runtime(host, workflows=[double]) as runtime:
            run = await runtime.start("double", 21)
            return await run.result()

    assert asyncio.run(main()) == 42
