"""Where things are kept: the keys of a store, all ASCII, none above 400 bytes.

    r/<id>                          the run's record
    h/<history>/<position>          one commit                     (history: <run>, or <run>-<generation>)
    s/<history>/<position>          a segment: sealed commits, from that position on
    b/<run>/<digest>/<chunk>        a value above the inline limit, in chunks
    i/<id>/<place>                  the inbox: what others ask of the run
    d/<run>/<dedupe>                a signal, update, cancel or timer with that dedupe key was accepted
    u/<run>/<entry>                 the reply to an update
    l/<run>                         a lease of the run that ends impossibly late: since when it stands there
    m/<run>                         the run was taken over here: of which hand-over; it outlives the run
    m/store                         a random name of this store, once a run was to be handed over to it
    t/<time>/<id>                   a suspended run that wants to be woken: 13 digits of ms; later, ~ and position(ms)
    t/<time>/!<kind>:<name>         something else that is to be done then: a schedule
    c/<schedule>                    a schedule
    g/<run>                         what all who share the run's budget have spent
    k/<board>/h                     the head of a board: what it counts, and the number of its last event
    k/<board>/t/<task>              a task
    k/<board>/q/<state>/<lane>/<order>/<task>   an index of tasks, in the order in which they are claimed
    k/<board>/p/<task>/<child>      a task that depends on another one
    k/<board>/e/<position>          an event of the board
    k/<board>/c/<task>/<position>   a comment
    k/<board>/a/<task>/<digest>/<position>      a chunk of an attachment
    k/<board>/i/<digest>            the task that an idempotency key stands for
    k/<board>/s/<subscriber>        how far a subscriber has read the events
    a/<budget>                      a named budget
    l/<limit>                       who holds a limit, and who waits for it
    e/<rule>                        which runs are purged by themselves, and how far that is
    o/<step>                        what was learned of the steps of a name
    x/s/<status>/<workflow>/<id>    indexes
    x/w/<workflow>/<id>
    x/a/<name>=<value>/<id>

``<run>`` is a random id: a purged and re-created run has other keys, so a zombie of the old one can't write into it.

Every key and every prefix of the kernel is made here: no other module spells one.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

RECORDS = "r/"
"""Behind it stand the ids of all runs."""
INBOXES = "i/"
"""Behind it stands every request, by run."""
TIMERS = "t/"
"""Behind it stand the runs that want to be woken, by the time at which they do."""
BLOBS = "b/"
"""Behind it stands every large value."""
REPLIES = "u/"
"""Behind it stand the replies to updates."""
BOARDS = "k/"
"""Behind it stand all boards."""
SCHEDULES = "c/"
"""Behind it stand all schedules."""
BY_STATUS = "x/s/"
"""Behind it stand all runs once more, by their status."""
LEARNED = "o/"
"""Behind it stands what was learned of steps."""
RULES = "e/"
"""Behind it stand the rules of retention."""
TASK = "task"
"""The attribute of a run that a task has started: ``board:task``."""
_CHORE = "!"
"""No run's id begins with it."""
_BEHIND = "\x7f"
"""Behind every character that a key may hold."""


def position(n: int) -> str:
    """``n`` so that ASCII order is numeric order and small numbers stay short: a7, b42, c100, d1234."""
    digits = str(n)
    return chr(96 + len(digits)) + digits


def position_of(key: str) -> int:
    """The number at the end of a key."""
    return int(key.rsplit("/", 1)[1][1:])


def is_position(text: str) -> bool:
    """Whether ``position`` returns that for a number, and as many more behind it as any list has."""
    return len(text) <= 16 and text[1:].isdigit() and text[1:].isascii() and position(int(text[1:])) == text


def record(id: str) -> str:
    """The run's record."""
    return f"{RECORDS}{id}"


def history(run: str, generation: int) -> str:
    """The name of one generation's history."""
    return run if generation == 0 else f"{run}-{generation}"


def commit(name: str, n: int) -> str:
    """Commit ``n`` of the history ``name``."""
    return f"{commits(name)}{position(n)}"


def commits(name: str) -> str:
    """The prefix of the commits of the history ``name``."""
    return f"h/{name}/"


def segment(name: str, n: int) -> str:
    """The segment that starts with commit ``n``."""
    return f"{segments(name)}{position(n)}"


def segments(name: str) -> str:
    """The prefix of the segments of the history ``name``."""
    return f"s/{name}/"


def is_segment(key: str) -> bool:
    """Whether a key of a history is that of a segment."""
    return key.startswith("s/")


def blob(run: str, digest: bytes, chunk: int) -> str:
    """One chunk of a large value."""
    return f"{chunks(run, digest)}{position(chunk)}"


def chunks(run: str, digest: bytes) -> str:
    """The prefix of the chunks of one large value."""
    return f"{blobs(run)}{digest.hex()}/"


def blobs(run: str) -> str:
    """The prefix of the large values of a run."""
    return f"{BLOBS}{run}/"


def inbox(id: str, place: str) -> str:
    """One entry of the inbox."""
    return f"{requests(id)}{place}"


def requests(id: str) -> str:
    """The prefix of the inbox of a run."""
    return f"{INBOXES}{id}/"


def behind_requests(id: str) -> str:
    """The place behind the whole inbox of a run: listing all inboxes from there skips to the next run."""
    return f"{INBOXES}{id}/{_BEHIND}"


def from_runs(id: str) -> str:
    """The prefix of what other runs put into the inbox of a run: a child's end, a parent's cancel."""
    return inbox(id, "~")


def dedupe(run: str, key: str) -> str:
    """The marker of a dedupe key; the key may be any text."""
    return f"{markers(run)}{sha256(key.encode()).hexdigest()[:32]}"


def markers(run: str) -> str:
    """The prefix of the markers of a run's dedupe keys."""
    return f"d/{run}/"


def reply(run: str, entry: str) -> str:
    """The reply to an update."""
    return f"{replies(run)}{entry}"


def replies(run: str) -> str:
    """The prefix of the replies to a run's updates."""
    return f"{REPLIES}{run}/"


def timer(wake_at: int, id: str) -> str:
    """The wake-up of a suspended run."""
    return f"{TIMERS}{_time(wake_at)}/{id}"


def timer_of(key: str) -> tuple[int, str]:
    """When a timer is due, ms since 1970, and the id of its run. Both forms of the time are read.

    ValueError for a key that is no timer's.
    """
    _, time, id = key.split("/")
    if not id:
        raise ValueError("a timer is of a run")
    return int(time.lstrip("~abcdefghijklmnopqrstuvwxyz")), id


def chore(kind: str, name: str) -> str:
    """What stands in a timer's key in place of a run's id, where something else is to be done."""
    return f"{_CHORE}{kind}:{name}"


def is_chore(id: str) -> bool:
    """Whether a timer is of a chore, and not of a run."""
    return id[:1] == _CHORE


def chore_of(id: str) -> tuple[str, str]:
    """The kind and the name of a chore."""
    kind, _, name = id[1:].partition(":")
    return kind, name


def schedule(name: str) -> str:
    """A schedule."""
    return f"{SCHEDULES}{name}"


def rule(name: str) -> str:
    """A rule of retention."""
    return f"{RULES}{name}"


def limit(name: str) -> str:
    """A limit that processes share."""
    return f"l/{name}"


def learned(step: str) -> str:
    """What was learned of the steps of a name, which may be any text."""
    return f"{LEARNED}{sha256(step.encode()).hexdigest()[:32]}"


def budget(name: str) -> str:
    """A named budget."""
    return f"a/{name}"


def behind_board(name: str) -> str:
    """Behind all that the board ``name`` keeps."""
    return f"{BOARDS}{name}/{_BEHIND}"


def board(name: str, kind: str, *parts: str) -> str:
    """What a board keeps of that kind. Without the last part it is a prefix, which ends in a slash."""
    return "/".join((f"{BOARDS}{name}", kind, *parts))


def in_order(key: str) -> bool:
    """Whether a timer's key stands where its time belongs. Version 0.1 wrote 14 digits and more without a ``~``."""
    return key[2] == "~" or key.find("/", 2) <= 15


def misplaced(key: str) -> tuple[str, ...]:
    """The key under which version 0.1 put a timer that is due after the year 2286; nothing for any other key."""
    if not key.startswith(f"{TIMERS}~"):
        return ()
    time, id = timer_of(key)
    return (f"{TIMERS}{time}/{id}",)


def timers_after(ms: int) -> str:
    """The place behind every timer that is due at ``ms`` or before."""
    return f"{TIMERS}{_time(ms)}/{_BEHIND}"


def _time(ms: int) -> str:
    """13 digits up to the year 2286; behind that the number of digits goes before them, so that order is numeric."""
    digits = f"{max(0, ms):013d}"
    return digits if len(digits) == 13 else f"~{position(ms)}"


def doubted(run: str) -> str:
    """What says since when a lease of the run stands there that a clock which was ahead has written."""
    return f"l/{run}"


def taken(run: str) -> str:
    """What says that a hand-over of the run was taken over here."""
    return f"m/{run}"


STORE = "m/store"
"""The name of the store itself."""


def shared(run: str) -> str:
    """The shared account of a budget."""
    return f"g/{run}"


def attribute(name: str, value: Any) -> str:
    """The part of an index key that says name=value. Values that don't fit into a key stand there by their digest."""
    text = {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    kind = {str: "s", bool: "b", int: "n", float: "n"}[type(value)]
    plain = all(c.isascii() and (c.isalnum() or c in "_.:@~+-") for c in text) and len(text) <= 64
    return f"{name}={kind}:{text}" if plain else f"{name}={kind}#{sha256(text.encode()).hexdigest()[:32]}"


def with_status(status: str, workflow: str | None = None) -> str:
    """The prefix of the index of runs with that status, and of that workflow where one is named."""
    return f"{BY_STATUS}{status}/{workflow}/" if workflow is not None else f"{BY_STATUS}{status}/"


def of_workflow(workflow: str) -> str:
    """The prefix of the index of runs of that workflow."""
    return f"x/w/{workflow}/"


def with_attribute(name: str, value: Any) -> str:
    """The prefix of the index of runs with that attribute."""
    return f"x/a/{attribute(name, value)}/"


def indexes(id: str, workflow: str, status: str, attributes: dict[str, Any], wake_at: int | None) -> set[str]:
    """Every index key of a run in that state."""
    found = {with_status(status, workflow) + id, of_workflow(workflow) + id}
    found.update(with_attribute(name, value) + id for name, value in attributes.items())
    if wake_at is not None and status == "suspended":
        found.add(timer(wake_at, id))
    return found
