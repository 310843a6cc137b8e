"""What `alkaline lint` finds, and what it leaves alone: a table of programs, each with what is to be found in it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from alkaline_hosts._lint.linting import MODULES, Finding, lint, lint_all
from alkaline_hosts._lint.rules import CODES

ROOT = Path(__file__).resolve().parents[2]
HEAD = "from alkaline_edge import Context, workflow\n"


def found_in(program: str) -> list[Finding]:
    return lint((HEAD + textwrap.dedent(program).lstrip("\n")).encode(), "program.py")


def in_handler(imports: str, body: str, outside: str = "") -> str:
    """A program whose handler has ``body``."""
    head = "\n".join(part for part in (imports, outside) if part)
    return f"{head}\n@workflow\nasync def flow(ctx: Context, n: int):\n{textwrap.indent(body, '    ')}\n"


# The code, what is imported, the handler's body, and what stands outside of it. "#!" marks each line of a finding.
GUILTY: list[tuple[str, ...]] = [
    # the clock
    ("ALK101", "import time", "return time.time() #!"),
    ("ALK101", "from time import time as now", "return now() #!"),
    ("ALK101", "import time", "clock = time.monotonic\nreturn clock() #!"),
    ("ALK101", "from datetime import datetime", "return datetime.now() #!"),
    ("ALK101", "from datetime import datetime, timezone", "return datetime.now(timezone.utc) #!"),
    ("ALK101", "import datetime", "return datetime.datetime.utcnow() #!"),
    ("ALK101", "import datetime as dt", "return dt.date.today() #!"),
    ("ALK101", "import time", "return time.strftime('%Y') #!"),
    ("ALK101", "import time", "return time.localtime() #!"),
    ("ALK101", "import time", "time.sleep(5) #!"),
    ("ALK101", "import time", "await ctx.step('a', str, time.time()) #!"),
    ("ALK101", "import time", "return [await ctx.step('a', str, n) for n in range(3) if time.time() > n] #!"),
    ("ALK101", "import time", "def late(at=time.time()): #!\n    return at\nreturn late()"),
    ("ALK101", "", "import time\nreturn time.perf_counter() #!"),
    ("ALK101", "import time", "return f'{time.time()}' #!"),
    ("ALK101", "import pandas as pd", "return pd.Timestamp.now() #!"),
    # randomness
    ("ALK102", "import random", "return random.random() #!"),
    ("ALK102", "from random import choice", "return choice([1, 2]) #!"),
    ("ALK102", "import random", "items = [1, 2]\nrandom.shuffle(items) #!"),
    ("ALK102", "import random", "return random.Random().random() #!"),
    ("ALK102", "import random", "return RNG.random() #!", "RNG = random.Random()"),
    ("ALK102", "import secrets", "return secrets.token_hex(4) #!"),
    ("ALK102", "import os", "return os.urandom(4) #!"),
    ("ALK102", "import numpy as np", "return np.random.rand(3) #!"),
    ("ALK102", "import numpy as np", "return np.random.default_rng().integers(5) #!"),
    # ids
    ("ALK103", "import uuid", "return str(uuid.uuid4()) #!"),
    ("ALK103", "from uuid import uuid4 as new", "return new().hex #!"),
    ("ALK103", "import uuid", "return uuid.uuid1() #!"),
    # I/O
    ("ALK104", "", "return open('a').read() #!"),
    ("ALK104", "", "with open('a') as file: #!\n    return file.read()"),
    ("ALK104", "", "return input('?') #!"),
    ("ALK104", "from pathlib import Path", "return Path('a').read_text() #!"),
    ("ALK104", "from pathlib import Path", "path = Path('a') / 'b'\nreturn path.exists() #!"),
    ("ALK104", "from pathlib import Path", "return FILE.with_suffix('.b').stat().st_size #!", "FILE = Path('a')"),
    ("ALK104", "import os", "return os.listdir('.') #!"),
    ("ALK104", "import os.path", "return os.path.exists('a') #!"),
    ("ALK104", "import requests", "return requests.get('u').json() #!"),
    ("ALK104", "from urllib.request import urlopen", "return urlopen('u').read() #!"),
    ("ALK104", "import subprocess", "subprocess.run(['ls']) #!"),
    ("ALK104", "import sqlite3", "sqlite3.connect('a') #!"),
    ("ALK104", "import httpx", "return httpx.get('u').text #!"),
    ("ALK104", "import os", "return list(filter(os.path.isfile, ['a'])) #!"),
    ("ALK104", "import asyncio", "await asyncio.open_connection('h', 1) #!"),
    ("ALK104", "from js import fetch", "return await fetch('u') #!"),
    ("ALK104", "from pyodide.http import pyfetch", "return await pyfetch('u') #!"),
    # surroundings
    ("ALK105", "import os", "return os.environ['A'] #!"),
    ("ALK105", "import os", "return os.environ.get('A') #!"),
    ("ALK105", "from os import environ", "return environ.get('A', 'b') #!"),
    ("ALK105", "import os", "return os.getenv('A') #!"),
    ("ALK105", "import os", "return os.getpid() #!"),
    ("ALK105", "import sys", "return sys.argv[1] #!"),
    ("ALK105", "import platform", "return platform.node() #!"),
    ("ALK105", "import sys", "if sys.platform == 'win32': #!\n    return 1"),
    # sets
    ("ALK106", "", "for each in {'a', 'b'}: #!\n    await ctx.step('s', str, each)"),
    ("ALK106", "", "names = set(['a'])\nfor each in names: #!\n    await ctx.step('s', str, each)"),
    ("ALK106", "", "return list({'a', 'b'}) #!"),
    ("ALK106", "", "return ','.join({'a', 'b'}) #!"),
    ("ALK106", "", "return [each for each in frozenset('ab')] #!"),
    ("ALK106", "", "return {each: 1 for each in set('ab')} #!"),
    ("ALK106", "", "for each in KNOWN - {'a'}: #!\n    await ctx.step('s', str, each)", "KNOWN = {'a', 'b'}"),
    ("ALK106", "", "a, b = {'a', 'b'} #!\nreturn a"),
    ("ALK106", "", "names = {'a', 'b'}\nreturn names.pop() #!"),
    ("ALK106", "", "a, b = {'a': 1}, {'b': 1}\nreturn list(a.keys() & b.keys()) #!"),
    ("ALK106", "", "return await ctx.all(*{ctx.step('a', str, 1)}) #!"),
    ("ALK106", "", "return f'{set(\"ab\")}' #!"),
    ("ALK106", "", "names: set[str] = await ctx.step('s', str)\nreturn list(names) #!"),
    ("ALK106", "", "for n, each in enumerate({'a'}): #!\n    await ctx.step('s', str, each)"),
    ("ALK106", "", "return await ctx.map(helper, {'a'}) #!", "async def helper(a): ..."),
    # identities
    ("ALK107", "", "return hash('a') #!"),
    ("ALK107", "", "return id(ctx) % 2 #!"),
    ("ALK107", "", "return sorted(['a'], key=lambda each: hash(each)) #!"),
    # state
    ("ALK108", "", "global COUNT\nCOUNT += 1 #!", "COUNT = 0"),
    ("ALK108", "", "CACHE['a'] = 1 #!", "CACHE = {}"),
    ("ALK108", "", "SEEN.append(n) #!", "SEEN = []"),
    ("ALK108", "", "if 'a' in CACHE: #!\n    return 1", "CACHE = {}\ndef fill():\n    CACHE['a'] = 1"),
    ("ALK108", "", "return LAST #!", "LAST = None\ndef said(what):\n    global LAST\n    LAST = what"),
    ("ALK108", "import itertools", "return next(NUMBERS) #!", "NUMBERS = itertools.count()"),
    ("ALK108", "", "Known.total = 1 #!", "class Known:\n    total = 0"),
    ("ALK108", "import settings", "settings.debug = True #!"),
    ("ALK108", "from collections import Counter", "del TALLY['a'] #!", "TALLY = Counter()"),
    ("ALK108", "import random", "return RNG.random() #!", "RNG = random.Random(5)"),
    ("ALK108", "", "flow.calls = 1 #!"),
    ("ALK106", "", "state = State()\nreturn list(state.seen) #!", "class State:\n    seen: set[str] = set()"),
    ("ALK106", "", "def said(it: State):\n    return [*it.seen] #!\nreturn said(n)", "class State:\n    seen: set"),
    ("ALK103", "from uuid import uuid4", "return Item() #!", "class Item:\n    id: str = field(default_factory=uuid4)"),
    ("ALK108", "from typing import Any", "global LAST\nLAST = n #!", "LAST: Any"),
    # foreign waits
    ("ALK109", "import asyncio", "return await asyncio.to_thread(len, 'a') #!"),
    ("ALK109", "import asyncio", "await GATE.wait() #!", "GATE = asyncio.Event()"),
    ("ALK109", "import asyncio", "async with LOCK: #!\n    return 1", "LOCK = asyncio.Lock()"),
    ("ALK109", "import asyncio", "return await asyncio.get_running_loop().run_in_executor(None, len, 'a') #!"),
    ("ALK109", "import asyncio", "loop = asyncio.get_running_loop()\nawait loop.run_in_executor(None, len, 'a') #!"),
    ("ALK109", "import httpx", "async with httpx.AsyncClient() as client:\n    return await client.get('u') #!"),
    ("ALK109", "import httpx", "return await httpx.AsyncClient().get('u') #!"),
    ("ALK109", "from openai import AsyncOpenAI", "await client.responses.create() #!", "client = AsyncOpenAI()"),
    ("ALK109", "from concurrent.futures import ThreadPoolExecutor", "pool = ThreadPoolExecutor() #!"),
    ("ALK109", "import threading", "threading.Thread(target=len).start() #!"),
    ("ALK109", "import asyncpg", "await asyncpg.connect('u') #!"),
    ("ALK109", "import js", "await js.something('a') #!"),
    ("ALK109", "import asyncio", "await asyncio.wrap_future(n) #!"),
]  # fmt: skip


def marked(program: str) -> list[int]:
    return [n for n, line in enumerate((HEAD + program.lstrip("\n")).splitlines(), 1) if line.endswith("#!")]


@pytest.mark.parametrize("case", GUILTY, ids=lambda case: f"{case[0]}-{case[2].splitlines()[-1][:40]}")
def test_what_differs_on_replay_is_found(case: tuple[str, ...]) -> None:
    """With its code, at its line, and nothing else is found in the program."""
    code, imports, body, *outside = case
    program = in_handler(imports, body, *outside)
    found = found_in(program)
    assert [(each.code, each.line) for each in found] == [(code, line) for line in marked(program)]
    assert found[0].handler in ("flow", "a lambda", "said")
    assert found[0].remedy


REACHED = {
    "a helper that is called": ("now", """
        import time
        def now():
            return time.time() #!
        @workflow
        async def flow(ctx, n):
            return now()
    """),
    "a helper of a helper": ("inner", """
        import time
        def inner():
            return time.time() #!
        async def outer():
            return inner()
        @workflow
        async def flow(ctx, n):
            return await outer()
    """),
    "a function that takes a Context": ("helper", """
        import time
        async def helper(ctx: Context, n: int):
            return time.time() #!
    """),
    "a Context by another name, in quotes": ("helper", """
        import time
        async def helper(n: int, run: "Context"):
            await run.step("a", str, time.time()) #!
    """),
    "a workflow with parameters": ("flow", """
        import time
        @workflow(name="flow", version=2)
        async def flow(run, n):
            return time.time() #!
    """),
    "workflow by another name": ("flow", """
        import time
        from alkaline_edge import workflow as durable
        @durable
        async def flow(ctx, n):
            return time.time() #!
    """),
    "workflow of the package": ("flow", """
        import time
        import alkaline_edge as ae
        @ae.workflow(version=3)
        async def flow(ctx: ae.Context, n):
            return time.time() #!
    """),
    "a workflow within a function": ("flow", """
        import time
        def make():
            @workflow
            async def flow(ctx, n):
                return time.time() #!
            return flow
    """),
    "state of the function around it": ("flow", """
        def make():
            calls = []
            @workflow
            async def flow(ctx, n):
                calls.append(n) #!
            return flow
    """),
    "a variable of the function around it": ("flow", """
        def make():
            count = 0
            @workflow
            async def flow(ctx, n):
                nonlocal count
                count += 1 #!
            return flow
    """),
    "a function in the handler that is called": ("now", """
        import time
        @workflow
        async def flow(ctx, n):
            def now():
                return time.time() #!
            return now()
    """),
    "what ctx.map calls": ("each", """
        import time
        @workflow
        async def flow(ctx, n):
            async def each(item):
                return time.time() #!
            return await ctx.map(each, [1])
    """),
    "what an update calls": ("change", """
        import time
        @workflow
        async def flow(ctx, n):
            def change(value):
                return time.time() #!
            ctx.on_update("change", change)
            await ctx.wait_for_signal("go")
    """),
    "a method": ("now", """
        import time
        class Agent:
            def now(self):
                return time.time() #!
            async def run(self, ctx: Context):
                return self.now()
    """),
    "a method of an object made in the handler": ("now", """
        import time
        class Clock:
            def now(self):
                return time.time() #!
        @workflow
        async def flow(ctx, n):
            clock = Clock()
            return clock.now()
    """),
    "what a class does when an object is made": ("__init__", """
        import time
        class Clock:
            def __init__(self):
                self.at = time.time() #!
        @workflow
        async def flow(ctx, n):
            return Clock().at
    """),
    "a lambda that is called": ("a lambda", """
        import time
        @workflow
        async def flow(ctx, n):
            now = lambda: time.time() #!
            return now()
    """),
    "a task": ("helper", """
        import asyncio, time
        async def helper():
            return time.time() #!
        @workflow
        async def flow(ctx, n):
            return await asyncio.create_task(helper())
    """),
    "a step's function that is called as well": ("look", """
        import time
        def look():
            return time.time() #!
        @workflow
        async def flow(ctx, n):
            await ctx.step(look)
            return look()
    """),
    "a generator": ("ticks", """
        import time
        def ticks():
            while True:
                yield time.time() #!
        @workflow
        async def flow(ctx, n):
            for tick in ticks():
                await ctx.step("s", str, tick)
    """),
    "a partial's arguments": ("flow", """
        import time
        from functools import partial
        @workflow
        async def flow(ctx, n):
            await ctx.step("s", partial(str, time.time())) #!
    """),
}  # fmt: skip


@pytest.mark.parametrize("case", REACHED)
def test_what_runs_with_a_handler_is_judged_with_it(case: str) -> None:
    """Where it stands is said by its line and its function."""
    handler, program = REACHED[case]
    (found,) = found_in(program)
    assert [found.line] == marked(textwrap.dedent(program))
    assert found.handler == handler


REGISTRY = """
TOOLS = {}
def tool(fn):
    TOOLS[fn.__name__] = fn
    return fn
def named(name):
    def add(fn):
        TOOLS[name] = fn
        return fn
    return add
@tool
def one(): ...
@named("two")
def two(): ...
"""
INNOCENT: list[tuple[str, ...]] = [
    ("", "return await ctx.step('one', TOOLS['one'])", REGISTRY),
    ("", "it = State()\nreturn sorted(it.seen), it.notes", "class State:\n    seen: set[str]\n    notes: list"),
    ("", "return Item()", "class Item:\n    ids: list = field(default_factory=list)"),
    ("", "return ctx.now(), ctx.random(), ctx.uuid()"),
    ("import time", "return await ctx.step('now', time.time)"),
    ("import time", "return await ctx.step(time.time)"),
    ("import uuid", "return await ctx.step('id', lambda: str(uuid.uuid4()))"),
    ("import time", "return await ctx.step('now', lambda: time.time(), retry=None)"),
    ("import time", "return await ctx.step('a', str, compensate=lambda value: time.time())"),
    ("import time", "def look():\n    return time.time()\nreturn await ctx.step(look)"),
    ("import time", "look = lambda: time.time()\nreturn await ctx.step('look', look)"),
    ("import time", "ctx.on_query('now', lambda: time.time())\nawait ctx.wait_for_signal('go')"),
    ("import time", "return await ctx.step('look', look)", "def look():\n    return time.time()"),
    ("import time", "return n", "def unused():\n    return time.time()"),
    ("import time", "return n", "BEGUN = time.time()"),
    ("import time", "time = await ctx.step('time', str)\nreturn time.upper()"),
    ("import time", "return time.strftime('%Y', time.gmtime(5))"),
    ("from datetime import datetime, timedelta", "return datetime(2026, 1, 1) + timedelta(days=1)"),
    ("from datetime import datetime", "return datetime.fromisoformat('2026-01-01')"),
    ("import datetime", "return datetime.datetime.fromtimestamp(5, datetime.timezone.utc)"),
    ("import random", "rng = random.Random(ctx.random())\nreturn rng.choice([1, 2])"),
    ("import random", "return random.Random(7).random()"),
    ("import uuid", "return str(uuid.uuid5(uuid.NAMESPACE_URL, 'a'))"),
    ("import uuid", "return uuid.UUID(ctx.uuid()).hex"),
    ("import secrets", "return secrets.compare_digest('a', 'b')"),
    ("from pathlib import Path, PurePath", "return str(Path('a') / 'b'), PurePath('c').name, Path('d').suffix"),
    ("import os", "return os.path.join('a', 'b'), os.path.basename('a/b'), os.sep"),
    ("import subprocess", "try:\n    await ctx.step('s', str)\nexcept subprocess.CalledProcessError:\n    return 1"),
    ("import requests", "try:\n    await ctx.step('s', str)\nexcept requests.HTTPError:\n    return 1"),
    ("import httpx", "return await ctx.step('get', client.get, 'u')", "client = httpx.AsyncClient()"),
    ("import httpx", "client = httpx.AsyncClient()\nreturn await ctx.step('get', client.get, 'u')"),
    ("", "for each in sorted({'a', 'b'}):\n    await ctx.step('s', str, each)"),
    ("", "names = {'a', 'b'}\nreturn 'a' in names, len(names), max(names)"),
    ("", "return any(each == 'a' for each in {'a', 'b'})"),
    ("", "return {each.upper() for each in {'a', 'b'}}"),
    ("", "names = set()\nfor each in ['b', 'a']:\n    names.add(each)\nreturn sorted(names)"),
    ("", "for key in {'a': 1, 'b': 2}:\n    await ctx.step('s', str, key)"),
    ("", "names = ['a']\nnames.append('b')\nreturn list(names)"),
    ("", "seen = {'a'}\nseen = sorted(seen)\nreturn [each for each in seen]"),
    ("", "mine = {}\nmine['a'] = 1\nmine.update(b=2)\nreturn mine.pop('a')"),
    ("", "return LIMITS['a'] + len(NAMES)", "LIMITS = {'a': 1}\nNAMES = ['a']\nNAMES.append('b')"),
    ("", "CACHE = {}\nCACHE['a'] = 1\nreturn CACHE", "CACHE = {}"),
    ("", "return runtime", "runtime: object\ndef main():\n    global runtime\n    runtime = 1"),
    ("", "total = 0\ndef add(value):\n    nonlocal total\n    total += value\nadd(1)\nreturn total"),
    ("import asyncio", "async with asyncio.timeout(5):\n    await asyncio.gather(ctx.step('a', str), ctx.sleep(1))"),
    ("import asyncio", "gate = asyncio.Event()\ngate.set()\nawait gate.wait()\nreturn asyncio.Queue().empty()"),
    ("import asyncio", "async with asyncio.TaskGroup() as group:\n    group.create_task(ctx.step('a', str))"),
    ("import asyncio", "await asyncio.sleep(5)\nreturn asyncio.get_running_loop().time()"),
    ("", "class Known:\n    total = 0\nKnown.total = 1\nreturn Known.total"),
    ("import time", "return time.time() # noqa: ALK101"),
    ("import time", "return time.time() # noqa"),
    ("import time, uuid", "return time.time(), uuid.uuid4() # noqa: ALK103, ALK101"),
    ("from helpers import agent", "return (await agent.run('a')).output"),
    ("", "def open(name):\n    return name\nreturn open('a')"),
    ("", "return next(iter([1])), [*'ab'], print('a')"),
    ("import json, re, hashlib", "return json.loads('1'), re.sub('a', 'b', 'c'), hashlib.md5(b'').hexdigest()"),
    ("import threading", "try:\n    await ctx.step('s', str)\nexcept threading.BrokenBarrierError:\n    return 1"),
]  # fmt: skip


@pytest.mark.parametrize("case", INNOCENT, ids=lambda case: case[1].splitlines()[-1][:50])
def test_what_is_the_same_on_each_replay_is_left_alone(case: tuple[str, ...]) -> None:
    """Also where it looks like the other thing."""
    assert found_in(in_handler(*case)) == []


NOT_JUDGED = {
    "a context of another package": "from mcp.server import Context\nasync def tool(ctx: Context):\n    open('a')\n",
    "click's": "import click\n@click.pass_context\ndef cli(ctx: click.Context):\n    open('a')\n",
    "another workflow": "from prefect import workflow\n@workflow\nasync def flow(ctx):\n    open('a')\n",
    "no handler at all": "import time\ndef main():\n    return time.time()\n",
    "a ctx that nobody says anything of": "def draw(ctx):\n    open('a')\n",
    "a decorated function, which may be a step": (
        "from alkaline_edge import workflow\nfrom mine import durable\n@durable\ndef look():\n    open('a')\n"
        "@workflow\nasync def flow(ctx, n):\n    return await look()\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_JUDGED)
def test_what_is_no_handler_is_not_judged(case: str) -> None:
    """It may do what it likes."""
    assert lint(NOT_JUDGED[case].encode(), "program.py") == []


def test_the_tables_are_as_large_as_was_asked_for() -> None:
    """Each code among them."""
    assert len(GUILTY) + len(REACHED) >= 60
    assert len(INNOCENT) >= 40
    assert {case[0] for case in GUILTY} == set(CODES) - {"ALK100"}


def test_a_noqa_of_another_code_silences_nothing() -> None:
    """Nor does one in a text."""
    (found,) = found_in(in_handler("import time", "return time.time() # noqa: ALK102"))
    assert found.code == "ALK101"
    (found,) = found_in(in_handler("import time", "return time.time() # noqa: ALK1011"))
    assert found.code == "ALK101"


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [path for folder in ("examples", "wasm") for path in sorted((ROOT / folder).rglob("*.py"))
            if not {"node_modules", ".venv", "dist", "build"} & set(path.parts)]  # fmt: skip


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_false_alarm_on_the_projects_own_examples(path: Path) -> None:
    """Each of them runs as it should."""
    assert lint(path.read_bytes(), str(path)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_false_alarm_on_the_programs_of_the_docs(page: Path) -> None:
    """Each of them runs as it should, but where the page itself says that it is wrong."""
    for program in re.findall(r"^```(?:python|py)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        assert lint(program.encode(), page.name) == []


def test_there_are_handlers_in_the_examples_and_docs() -> None:
    """So that a lint which finds none at all is not taken for one that has no false alarm."""
    import ast

    from alkaline_hosts._lint.handlers import Source

    count = sum(len(Source(ast.parse(path.read_bytes())).handlers) for path in EXAMPLES)
    assert count >= 5, count


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"def f(:\n", "no Python"),
        (b"x = '\x00'\n", "no Python"),
        (b"# coding: nonsense\nx = 1\n", "no"),
        (b"x = '\xff'\n", "no"),
        (b"(" * 5_000, "this is"),
        (b"x = " + b"-" * 20_000 + b"1\n", "this is"),
    ],
)
def test_what_is_no_python_is_one_finding(data: bytes, why: str) -> None:
    """Which says so, and the other files are read all the same."""
    (found,) = lint(data, "odd.py")
    assert found.code == "ALK100"
    assert why in found.message


def test_an_empty_source_has_no_finding() -> None:
    """Nor one with other ends of lines, or a mark at its beginning."""
    assert lint(b"", "empty.py") == []
    program = (HEAD + in_handler("import time", "return time.time() # noqa")).replace("\n", "\r\n")
    assert lint(b"\xef\xbb\xbf" + program.encode(), "windows.py") == []


def project(**modules: str) -> tuple[list[str], dict[str, bytes]]:
    """Sources by their paths: ``app__words`` is app/words.py, and each folder is a package."""
    texts = {f"{name.replace('__', '/')}.py": textwrap.dedent(text).encode() for name, text in modules.items()}
    folders = {str(parent) for path in texts for parent in Path(path).parents if str(parent) != "."}
    texts.update({f"{folder}/__init__.py": b"" for folder in folders if f"{folder}/__init__.py" not in texts})
    return sorted(texts), texts


FLOW = HEAD + "{imports}\n@workflow\nasync def flow(ctx: Context, n: int):\n    return {call}\n"
CLOCK = "import time\ndef pick(n=0):\n    return time.time()\n"
IMPORTED = [
    ("from app.words import pick", "pick(n)"),
    ("from .words import pick as chosen", "chosen(n)"),
    ("from app import words", "words.pick()"),
    ("from . import words as w", "[w.pick() for _ in range(n)]"),
    ("import app.words", "app.words.pick()"),
    ("from app.words import pick", "await ctx.map(pick, [n])"),
    ("from app.words import pick", "sorted([n], key=pick)"),
    ("from app.through import passed", "passed()"),
    ("from app.again import pick", "pick()"),
]


@pytest.mark.parametrize(("imports", "call"), IMPORTED)
def test_what_a_handler_calls_in_another_module_is_judged_where_it_stands(imports: str, call: str) -> None:
    """However it is imported, through modules between, and once for two handlers; its own noqa counts."""
    more = {
        "app__words": CLOCK, "app__through": "from .words import pick\ndef passed():\n    return pick()\n",
        "app__again": "from app.words import pick\n",
    }  # fmt: skip
    files, texts = project(
        app__flows=FLOW.format(imports=imports, call=call), app__other=FLOW.format(imports=imports, call=call), **more
    )
    (found,) = lint_all(files, texts.__getitem__)
    assert (found.file, found.line, found.code, found.handler) == ("app/words.py", 3, "ALK101", "pick")
    texts["app/words.py"] = CLOCK.replace("time.time()", "time.time()  # noqa: ALK101").encode()
    assert lint_all(files, texts.__getitem__) == []


ELSEWHERE = [
    ("from app.words import pick", "await ctx.step(pick, n)"),  # a step
    ("from app.words import pick", "n"),  # not called
    ("from other.words import pick", "pick()"),  # none of these files
    ("from app.words import wrapped", "wrapped()"),
    ("from app.words import gone", "gone()"),
    ("from app.broken import pick", "pick()"),
    ("from app.words import *", "pick()"),
    ("from ....words import pick", "pick()"),  # beyond the top
    ("from app.circle import there", "there()"),
]


@pytest.mark.parametrize(("imports", "call"), ELSEWHERE)
def test_what_is_not_known_to_run_with_a_handler_is_left_alone(imports: str, call: str) -> None:
    """A step, what is wrapped, missing, no Python, or leads round in a circle."""
    words = CLOCK + "import cached\n@cached.one\ndef wrapped():\n    return time.time()\n"
    files, texts = project(
        app__flows=FLOW.format(imports=imports, call=call), app__words=words, app__broken="def pick(:",
        app__circle="from app.back import there\n", app__back="from app.circle import there\n",
    )  # fmt: skip
    assert {each.file for each in lint_all(files, texts.__getitem__)} == {"app/broken.py"}


@pytest.mark.parametrize(("modules", "found"), [(1, 1), (MODULES, 1), (MODULES + 1, 0)])
def test_calls_are_followed_through_some_modules_and_no_more(modules: int, found: int) -> None:
    """So that what it costs has an end; each module counts once on the way."""
    chain = {
        f"app__m{n}": f"from .m{n + 1} import f as g\ndef f():\n    return g()\n" for n in range(1, modules)
    } | {f"app__m{modules}": "import time\ndef f():\n    return time.time()\n"}  # fmt: skip
    files, texts = project(app__flows=FLOW.format(imports="from app.m1 import f", call="f()"), **chain)
    assert len(lint_all(files, texts.__getitem__)) == found


def test_state_of_another_module_is_state_outside_of_the_run() -> None:
    """What a function there keeps for the next call is not what a replay has."""
    kept = "seen = []\ndef note(n):\n    seen.append(n)\n    return len(seen)\n"
    files, texts = project(app__flows=FLOW.format(imports="from app.kept import note", call="note(n)"), app__kept=kept)
    assert {(each.file, each.code) for each in lint_all(files, texts.__getitem__)} == {("app/kept.py", "ALK108")}


def test_no_false_alarm_on_the_examples_as_one_project() -> None:
    """All of them read together, with what they import of each other."""
    files = sorted(str(path) for path in (ROOT / "examples").rglob("*.py"))
    assert lint_all(files, lambda file: Path(file).read_bytes()) == []
