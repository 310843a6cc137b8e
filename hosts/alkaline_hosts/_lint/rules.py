"""What may differ from one replay to the next: the names that give it, each with its code and its remedy.

A name is dotted and as it is imported. One that ends in ``.*`` stands for all below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Rule(NamedTuple):
    """A kind of finding: its code, what is wrong with ``{name}``, and what to write in its place."""

    code: str
    message: str
    remedy: str


SYNTAX = Rule("ALK100", "{name}", "mend it, and lint again")
CLOCK = Rule("ALK101", "{name} reads the clock, which says something else on replay", "use ctx.now()")
SLEEP = Rule("ALK101", "{name} holds the process up and is not durable", "use await ctx.sleep(...)")
RANDOM = Rule(
    "ALK102", "{name} draws what a replay does not draw again", "use ctx.random(), or a generator seeded by it"
)
UUID = Rule("ALK103", "{name} makes another id on each replay", "use ctx.uuid()")
IO = Rule(
    "ALK104", "{name} does I/O, which runs again on each replay", "put it into a function, and call it with ctx.step"
)
SURROUNDINGS = Rule(
    "ALK105",
    "{name} reads the process's surroundings, which differ elsewhere",
    "read it in a step, or give it as input",
)
SET = Rule("ALK106", "{name} is a set, and its order differs from process to process", "use sorted(...), or a list")
IDENTITY = Rule(
    "ALK107", "{name} differs from process to process", "use a value of the object, or hashlib over its bytes"
)
STATE = Rule(
    "ALK108",
    "{name} is state outside of the run, which another process or a replay does not have",
    "keep it in a local variable, or in a step's result",
)
FOREIGN = Rule(
    "ALK109",
    "{name} waits for something outside of the run, which no replay can wake",
    "await it inside a step: ctx.step",
)
CODES = {
    "ALK100": "the source can't be read",
    "ALK101": "the clock",
    "ALK102": "randomness",
    "ALK103": "random ids",
    "ALK104": "I/O",
    "ALK105": "the surroundings of the process",
    "ALK106": "the order of a set",
    "ALK107": "identities and hashes",
    "ALK108": "state outside of the run",
    "ALK109": "waits that are not durable",
}

_CLOCKS = (
    "time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns time.process_time "
    "time.process_time_ns time.thread_time time.thread_time_ns time.clock_gettime time.clock_gettime_ns "
    "datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today arrow.now arrow.utcnow "
    "pendulum.now pendulum.today pendulum.tomorrow pendulum.yesterday django.utils.timezone.now timeit.default_timer "
    "pandas.Timestamp.now pandas.Timestamp.today pandas.Timestamp.utcnow whenever.Instant.now js.Date.now "
    "js.performance.now"
)
CLOCKS_WITHOUT = {
    "time.localtime": 0, "time.gmtime": 0, "time.ctime": 0, "time.asctime": 0, "time.strftime": 1, "js.Date.new": 0,
}  # fmt: skip
"""These read the clock where they are given no time: after so many arguments."""
_RANDOM = (
    "random.* secrets.* numpy.random.* os.urandom os.getrandom ssl.RAND_bytes torch.rand torch.randn torch.randint "
    "torch.randperm js.Math.random js.crypto.getRandomValues"
)
SEEDED = {
    "random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.SeedSequence",
    "numpy.random.PCG64", "numpy.random.Philox",
}  # fmt: skip
"""Generators that give the same where they are given a seed."""
NO_DRAW = {"numpy.random.Generator", "secrets.compare_digest"}
_UUID = (
    "uuid.uuid1 uuid.uuid4 uuid.uuid6 uuid.uuid7 uuid.uuid8 uuid.getnode ulid.new ulid.ULID nanoid.generate "
    "shortuuid.uuid ksuid.ksuid bson.ObjectId js.crypto.randomUUID"
)
_IO = (
    "builtins.open builtins.input io.open io.FileIO os.open os.read os.write os.listdir os.scandir os.walk os.fwalk "
    "os.stat os.lstat os.access os.remove os.unlink os.rename os.replace os.mkdir os.makedirs os.rmdir os.removedirs "
    "os.link os.symlink os.readlink os.truncate os.utime os.chmod os.system os.popen os.kill os.fork os.mkfifo "
    "os.pipe os.path.exists os.path.lexists os.path.isfile os.path.isdir os.path.islink os.path.getsize "
    "os.path.getmtime os.path.getctime os.path.getatime os.path.realpath os.path.samefile os.path.ismount "
    "os.spawn* os.exec* os.posix_spawn* pathlib.Path.cwd pathlib.Path.home "
    "glob.* fileinput.* shutil.* tempfile.* socket.* ssl.create_default_context select.* selectors.* subprocess.* "
    "urllib.request.* http.client.* ftplib.* smtplib.* imaplib.* poplib.* telnetlib.* xmlrpc.client.* "
    "requests.* urllib3.* sqlite3.* dbm.* shelve.* mmap.* psycopg2.* pymysql.* pymongo.* boto3.* paramiko.* "
    "zipfile.ZipFile tarfile.open gzip.open bz2.open lzma.open linecache.* "
    "webbrowser.* getpass.getpass asyncio.open_connection asyncio.start_server asyncio.open_unix_connection "
    "asyncio.start_unix_server asyncio.create_subprocess_exec asyncio.create_subprocess_shell anyio.open_file "
    "anyio.connect_tcp anyio.create_tcp_listener anyio.run_process anyio.open_process anyio.Path.* aiofiles.* "
    "trio.* pyodide.http.* js.fetch js.localStorage.* js.sessionStorage.* js.indexedDB.* js.document.* workers.fetch "
    "httpx.get httpx.post httpx.put httpx.patch httpx.delete httpx.head httpx.options httpx.request httpx.stream "
    "httpx.Client aiohttp.request"
)
_SURROUNDINGS = (
    "os.environ os.environb os.getenv os.getenvb os.getpid os.getppid os.getcwd os.getlogin os.getuid os.geteuid "
    "os.uname os.cpu_count os.process_cpu_count os.getloadavg os.get_terminal_size os.sched_getaffinity sys.argv "
    "sys.platform sys.version sys.version_info sys.executable sys.stdin sys.flags sys.path sys.modules platform.* "
    "locale.* getpass.getuser gc.get_objects gc.get_count threading.get_ident threading.current_thread "
    "threading.active_count multiprocessing.current_process multiprocessing.cpu_count resource.getrusage psutil.*"
)
_FOREIGN = (
    "asyncio.to_thread asyncio.wrap_future asyncio.run_coroutine_threadsafe asyncio.run asyncio.Runner "
    "asyncio.new_event_loop concurrent.futures.* threading.Thread threading.Timer threading.Event threading.Lock "
    "threading.RLock threading.Condition threading.Semaphore threading.Barrier multiprocessing.Process "
    "multiprocessing.Pool multiprocessing.Queue queue.Queue anyio.to_thread.* anyio.from_thread.* anyio.to_process.* "
    "httpx.AsyncClient aiohttp.ClientSession asyncpg.* openai.AsyncOpenAI openai.OpenAI openai.AsyncAzureOpenAI "
    "openai.AzureOpenAI anthropic.AsyncAnthropic anthropic.Anthropic redis.Redis redis.from_url redis.asyncio.* "
    "psycopg.connect psycopg.AsyncConnection.* psycopg.Connection.* aiosqlite.* motor.* aioboto3.* aiobotocore.* "
    "websockets.* grpc.* grpc.aio.* google.genai.Client mistralai.Mistral cohere.* groq.* elasticsearch.* "
    "sqlalchemy.create_engine sqlalchemy.ext.asyncio.* nats.* aiokafka.* aio_pika.* js.Promise.* js.setTimeout"
)
HARMLESS = {
    "concurrent.futures.TimeoutError", "concurrent.futures.CancelledError", "subprocess.CalledProcessError",
    "subprocess.TimeoutExpired", "subprocess.PIPE", "subprocess.DEVNULL", "subprocess.STDOUT", "socket.timeout",
    "socket.gaierror", "socket.error", "socket.AF_INET", "socket.AF_INET6", "shutil.Error", "requests.Timeout",
    "requests.HTTPError", "requests.RequestException", "requests.ConnectionError", "requests.Response",
    "urllib3.exceptions", "sqlite3.Error", "sqlite3.IntegrityError", "sqlite3.OperationalError", "sqlite3.Row",
    "asyncpg.Connection", "asyncpg.Pool", "asyncpg.Record", "asyncpg.PostgresError",
    "locale.Error", "glob.escape",
}  # fmt: skip
"""Below a name that is forbidden as a whole, what does nothing: errors, types to compare with, constants."""
CLIENTS = {
    "httpx.AsyncClient", "httpx.Client", "aiohttp.ClientSession", "openai.AsyncOpenAI", "openai.OpenAI",
    "openai.AsyncAzureOpenAI", "openai.AzureOpenAI", "anthropic.AsyncAnthropic", "anthropic.Anthropic", "redis.Redis",
    "redis.asyncio.Redis", "requests.Session", "google.genai.Client", "mistralai.Mistral", "groq.Groq",
    "groq.AsyncGroq", "cohere.Client", "cohere.AsyncClient", "cohere.ClientV2", "cohere.AsyncClientV2",
}  # fmt: skip
"""Making one asks nobody yet: a step may use it. What it is asked for in a handler is found."""
PATHS = {"pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath"}
PATH_IO = {
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "exists", "is_file", "is_dir", "is_symlink",
    "is_mount", "stat", "lstat", "iterdir", "glob", "rglob", "walk", "mkdir", "rmdir", "touch", "unlink",
    "rename", "replace", "resolve", "absolute", "expanduser", "owner", "group", "chmod", "samefile", "symlink_to",
    "hardlink_to", "readlink", "copy", "copy_into", "move",
}  # fmt: skip
"""What a pathlib.Path does to the disk; the rest of its methods make other paths."""
LOOP_CALLS = {"run_in_executor", "call_soon_threadsafe", "create_connection", "create_server", "add_reader",
              "add_writer", "subprocess_exec", "subprocess_shell", "sock_recv", "sock_sendall"}  # fmt: skip
"""What an event loop does for I/O and threads; the handler's own refuses them."""
LOOPS = {"asyncio.get_running_loop", "asyncio.get_event_loop"}
LOOP_OBJECTS = {
    "asyncio.Event", "asyncio.Lock", "asyncio.Queue", "asyncio.Semaphore", "asyncio.BoundedSemaphore",
    "asyncio.Condition", "asyncio.Future", "asyncio.LifoQueue", "asyncio.PriorityQueue", "asyncio.Barrier",
    "anyio.Event", "anyio.Lock", "anyio.Semaphore",
}  # fmt: skip
"""What a handler may make for itself, and may not share with what is outside of it."""
CONTAINERS = {
    "builtins.dict", "builtins.list", "builtins.set", "builtins.bytearray", "collections.defaultdict",
    "collections.Counter", "collections.deque", "collections.OrderedDict", "weakref.WeakKeyDictionary",
    "weakref.WeakValueDictionary", "itertools.count", "itertools.cycle", "builtins.iter", "types.SimpleNamespace",
}  # fmt: skip
CHANGES = {
    "append", "add", "update", "pop", "setdefault", "extend", "insert", "remove", "discard", "clear", "popitem",
    "appendleft", "popleft", "extendleft", "rotate", "sort", "reverse", "subtract", "difference_update",
    "intersection_update", "symmetric_difference_update", "__setitem__", "__delitem__",
}  # fmt: skip
"""Methods that change a container."""


def _table() -> tuple[dict[str, Rule], list[tuple[str, Rule]]]:
    exact: dict[str, Rule] = {}
    below: list[tuple[str, Rule]] = []
    for words, rule in (
        (_CLOCKS, CLOCK), (_RANDOM, RANDOM), (_UUID, UUID), (_IO, IO), (_SURROUNDINGS, SURROUNDINGS),
        (_FOREIGN, FOREIGN),
    ):  # fmt: skip
        for name in words.split():
            if name.endswith("*"):
                below.append((name[:-1], rule))
            else:
                exact[name] = rule
    exact["time.sleep"] = SLEEP
    return exact, below


_EXACT, _BELOW = _table()


def rule_of(name: str) -> Rule | None:
    """The rule that the dotted ``name`` is against; None where it is none."""
    if name in HARMLESS or name in NO_DRAW or name.rpartition(".")[2].endswith(("Error", "Exception")):
        return None
    found = _EXACT.get(name)
    if found is None:
        found = next((rule for prefix, rule in _BELOW if name.startswith(prefix)), None)
    return found


def is_seeded(name: str, arguments: Iterable[object]) -> bool:
    """Whether ``name`` makes a generator of random numbers that begins at a seed it is given."""
    return name in SEEDED and any(True for _ in arguments)
