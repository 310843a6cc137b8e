"""JavaScript values become Python values of the history's profile, or are refused by name and place."""

from __future__ import annotations

import json

import pytest

SETUP = """
import datetime, json, math
from alkaline_edge.codec import Codec
from alkaline_edge.errors import InvalidInput
from alkaline_hosts.javascript import convert, to_python
from pyodide.code import run_js
"""


@pytest.fixture(scope="module")
def python(selenium_module_scope):
    """Runs Python in one Pyodide with the package loaded; the last expression comes back as its repr."""
    selenium_module_scope.load_package(["alkaline-edge"])
    selenium_module_scope.run(SETUP)
    return lambda source: selenium_module_scope.run(source)


VALUES = {
    "null": "None",
    "undefined": "None",
    "true": "True",
    "'text'": "'text'",
    "7": "7",
    "7.5": "7.5",
    "2 ** 53 - 1": "9007199254740991",
    "2 ** 60": "1.152921504606847e+18",
    "-0": "-0.0",
    "NaN": "nan",
    "-Infinity": "-inf",
    "10n ** 30n": "1000000000000000000000000000000",
    "7n": "7",
    "new Date(0)": "datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)",
    "new Date(-1)": "datetime.datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=datetime.timezone.utc)",
    "new Uint8Array([1, 2])": r"b'\x01\x02'",
    "new Uint8Array([1, 2, 3]).subarray(1)": r"b'\x02\x03'",
    "new Uint8ClampedArray([300])": r"b'\xff'",
    "new Uint8Array([1, 2]).buffer": r"b'\x01\x02'",
    "new DataView(new Uint8Array([1, 2]).buffer, 1)": r"b'\x02'",
    "new Float64Array([1, 0.5])": "[1, 0.5]",
    "new Int16Array([-1])": "[-1]",
    "new BigInt64Array([5n])": "[5]",
    "[1, , 'a']": "[1, None, 'a']",
    "new Map([['b', 1], ['a', new Map()]])": "{'b': 1, 'a': {}}",
    "new Set(['x', 1])": "['x', 1]",
    "({})": "{}",
    "Object.assign(Object.create(null), { a: 1 })": "{'a': 1}",
    "JSON.parse('{\"__proto__\": 1}')": "{'__proto__': 1}",
    "({ a: [{ b: new Date(0), c: [new Uint8Array([9]), 3n] }] })": (
        "{'a': [{'b': datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc), 'c': [b'\\t', 3]}]}"
    ),
}


@pytest.mark.parametrize("expression", VALUES)
def test_a_value_becomes_its_python_counterpart(python, expression: str) -> None:
    """The value alone, and deep inside a Python container, gives the same Python value, of exactly that type."""
    made = f"made = run_js({'(' + expression + ')'!r})\n"
    found = python(made + "[repr(to_python(made)), repr(to_python([{'x': made}]))]")
    # A bare number crosses by Pyodide's own rule, in which -0 is 0: no proxy, nothing to convert.
    expected = "0" if expression == "-0" else VALUES[expression]
    assert found == [expected, f"[{{'x': {expected}}}]"]
    nested = f"repr(to_python(run_js({'[' + expression + ']'!r})))"
    assert python(nested) == f"[{VALUES[expression]}]"


REFUSED = {
    "({ a: [1, () => 1] })": "value.a[1] is a JavaScript function",
    "({ a: Symbol('s') })": "value.a is a JavaScript symbol",
    "({ late: Promise.resolve(1) })": "value.late is a JavaScript Promise, which a history can't hold; await it",
    "[new Response('x')]": "value[0] is a JavaScript Response, which a history can't hold; return await response",
    "[new URL('http://localhost/')]": "value[0] is a JavaScript URL, which a history can't hold; return its href",
    "({ deep: { error: new TypeError('x') } })": "value.deep.error is a JavaScript TypeError",
    "({ at: new Date(NaN) })": "value.at is an invalid Date",
    "({ at: new Date(8.64e15) })": "value holds a Date outside the years 1 to 9999",
    "new Map([[1, 2]])": "value has a key of type number",
    "[new (class Mine {})()]": "value[0] is a JavaScript Mine",
    "[new WeakMap()]": "value[0] is a JavaScript WeakMap",
    "(() => { const a = []; a.push(a); return a; })()": "is nested deeper than 64 levels",
    "({ get a() { throw new Error('no'); } })": "value could not be read: Error: no",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_has_no_counterpart_is_refused_by_place(python, expression: str) -> None:
    """The message begins with the path to the value, says what it is and what to do."""
    source = f"""
try:
    said = repr(to_python(run_js({"(" + expression + ")"!r})))
except InvalidInput as error:
    said = str(error)
said
"""
    assert REFUSED[expression] in python(source)


def test_a_python_value_wrapped_for_javascript_is_refused(python) -> None:
    """A proxy of a Python value inside a JavaScript one would be dead by the time of a replay."""
    said = python(
        "from pyodide.ffi import create_proxy\nproxy = create_proxy(object())\n"
        "try:\n    said = to_python(run_js('(p) => ({ p })')(proxy))\n"
        "except InvalidInput as error:\n    said = str(error)\nproxy.destroy()\nsaid"
    )
    assert "value.p is a JavaScript PyProxy" in said


def test_the_codec_takes_it_as_its_hook(python) -> None:
    """With ``Codec(convert=convert)`` a proxy anywhere in a value is stored as what it stands for; a set is refused."""
    same = "codec = Codec(convert=convert)\nmade = run_js('({ n: [1, 2n, new Uint8Array([3])] })')\n"
    same += "codec.encode({'a': made}) == codec.encode({'a': {'n': [1, 2, b'\\x03']}})"
    assert python(same) is True
    refused = "try:\n    said = codec.encode({'a': {1, 2}})\nexcept InvalidInput as error:\n    said = str(error)\nsaid"
    assert "value.a is of type set" in python(refused)


def test_ten_thousand_conversions_leak_nothing(python, selenium_module_scope) -> None:
    """No reference across the border is left behind, also not by values that were refused."""
    work = """
make = run_js("(n) => ({ n, list: [new Map([['a', new Date(n)]]), new Uint8Array(8), BigInt(n)] })")
bad = run_js("() => ({ a: () => 1 })")
def work(times):
    for number in range(times):
        to_python(make(number))
        if not number % 10:
            try:
                to_python(bad())
            except InvalidInput:
                pass
work(100)
import gc
gc.collect()
"""
    python(work)
    keys = selenium_module_scope.get_num_hiwire_keys()
    selenium_module_scope.run_js("pyodide._module.enable_pyproxy_allocation_tracing()")
    python("work(10_000)\ngc.collect()\nNone")
    assert selenium_module_scope.get_num_hiwire_keys() == keys
    assert selenium_module_scope.get_num_proxies() == 0


def test_python_values_are_left_alone(python) -> None:
    """What is not of JavaScript passes through, whatever it is; JSON shows that containers keep their content."""
    assert json.loads(python("json.dumps(to_python({'a': (1, [None, 'x'], 2.5)}))")) == {"a": [1, [None, "x"], 2.5]}
    assert python("mark = object()\nto_python(mark) is mark") is True


STEPS = """
from alkaline_edge import Context, Runtime, StepError, workflow
from alkaline_edge.events import StepCompleted, StepFailed
from alkaline_edge.testing import SimulatedHost
from pyodide.code import run_js

named = run_js("(function fetchPage(x) { if (x < 0) throw new RangeError('x is negative'); return x + 1; })")
later = run_js("(async function later(x) { return x; })")
arrow = run_js("((x) => x)")

@workflow
async def flow(ctx: Context, x: int):
    return [await ctx.step(arrow, x), await ctx.step(later, x), await ctx.step(named, x)]

async with Runtime(SimulatedHost(), workflows=[flow]) as runtime:
    good, bad = await runtime.start(flow, 1, id="good"), await runtime.start(flow, -1, id="bad")
    found = [await good.result()]
    try:
        await bad.result()
    except StepError as error:
        found += [error.type, str(error)]
    for id in ("good", "bad"):
        events = [one.event for one in await runtime.history(id)]
        found.append([event.name for event in events if isinstance(event, (StepCompleted, StepFailed))])
found
"""


def test_steps_and_errors_of_javascript_have_the_names_that_they_have_there(selenium_module_scope) -> None:
    """A function is the step of its name, an arrow has none; an error that is thrown has its type and its message."""
    selenium_module_scope.load_package(["alkaline-edge"])
    names = [["JsProxy", "later", "fetchPage"]] * 2
    found = selenium_module_scope.run_async(STEPS)
    assert found == [[1, 1, 2], "RangeError", "x is negative", *names]
