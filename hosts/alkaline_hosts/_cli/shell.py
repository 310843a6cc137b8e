"""What every command of ``alkaline`` shares: its store, its errors, its exit codes."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, overload

import click

from alkaline_edge import (
    AlkalineError,
    Codec,
    ConflictError,
    InvalidInput,
    NotFound,
    Runtime,
    StoreError,
    Workflow,
    keys,
)
from alkaline_edge.errors import ERR_INVALID_INPUT, ERR_NOT_FOUND, UnreadableValue
from alkaline_edge.host import Host

from .._http.json import ForeignCodec
from ..opening import open_host
from .addresses import KEYS, TENANT, Address, seal_of
from .output import safe

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
EXIT_NO, EXIT_USAGE, EXIT_STORE, EXIT_NOT_FOUND, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
VARIABLE, TRACEBACK = "ALKALINE_STORE", "ALKALINE_TRACEBACK"
_PROBE = 5
"""Records that are looked at to find out whether the keys are those of a store: one may be damaged."""
_LOCKED = "open for writing"
"""What FileHost's ConflictError says of a file that another writer has."""


class Group(click.Group):
    """A group whose usage errors are one line, and JSON with ``--json``, like every other error."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]  # of click's parameters only these are used
        """As click's, with errors as ``fail`` gives them."""
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            status = super().main(given, prog_name, **extra)
        except click.exceptions.NoArgsIsHelpError as help:
            click.echo(help.format_message(), err=True)
            raise SystemExit(EXIT_USAGE) from None
        except click.ClickException as error:
            fail(InvalidInput(f"{error.format_message().rstrip('.')}; see alkaline --help"), "--json" in given)
        except (click.Abort, KeyboardInterrupt):
            raise SystemExit(EXIT_INTERRUPTED) from None
        raise SystemExit(status if isinstance(status, int) else 0)


def fail(error: AlkalineError, as_json: bool) -> NoReturn:
    """One line on stderr, and the exit code of the error's kind."""
    text = safe(" ".join(str(error).split())).replace("list_executions() shows", "alkaline list shows")
    if as_json:
        print(json.dumps({"error": error.code, "message": text}, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"error: {text}", file=sys.stderr)
    raise SystemExit({ERR_INVALID_INPUT: EXIT_USAGE, ERR_NOT_FOUND: EXIT_NOT_FOUND}.get(error.code, EXIT_STORE))


def reported(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors into their line and exit code; never a traceback for what a user or a store did."""

    @functools.wraps(command)
    def wrapper(*args: Any, as_json: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, as_json=as_json, **kwargs)
            sys.stdout.flush()
        except AlkalineError as error:
            fail(error, as_json)
        except BrokenPipeError:  # such as `alkaline list ... | head`: whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except OSError as error:
            fail(InvalidInput(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}"), as_json)
        except UnicodeError:
            fail(InvalidInput("an argument holds bytes that are no text in this locale: give UTF-8"), as_json)
        except Exception as error:  # a defect of ours: one line too, and its trace for who asks for it
            if os.environ.get(TRACEBACK):
                raise
            text = f"{type(error).__name__}: {error}"[:300]
            fail(StoreError(f"alkaline met what it does not know ({text}); {TRACEBACK}=1 shows where"), as_json)

    return wrapper


def on_store(*names: str, optional: int = 0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the arguments ``[STORE] NAMES...``, of which the last ``optional`` may be left out.

    STORE is left out where ``--store`` names the store. Where ALKALINE_STORE does, it may be: it is then the argument
    too many. The command gets an Address, with the keys that ``--keys`` and ``--tenant`` name.
    """
    least = len(names) - optional
    shown = ["[STORE]", *names[:least], *(f"[{name}]" for name in names[least:])]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapper(
            words: tuple[str, ...], store: str | None, keys: str | None, tenant: str | None, **kwargs: Any
        ) -> Any:
            given = list(words)
            if store is None:
                default = os.environ.get(VARIABLE)
                count = len(given)
                if default and least <= count <= len(names):
                    store = default
                elif given:
                    store = given.pop(0)
                else:
                    raise InvalidInput(f"no store is given: name one with STORE, --store or {VARIABLE}")
            if not store:
                raise InvalidInput(f"the store's name is empty: name one with STORE, --store or {VARIABLE}")
            if not least <= len(given) <= len(names):
                raise InvalidInput(f"the arguments are {' '.join(shown)}: {len(words)} were given; see --help")
            values = dict.fromkeys(map(_parameter, names), None) | {
                _parameter(name): value for name, value in zip(names, given, strict=False)
            }
            return command(store=named(store, keys, tenant, values.get("target")), **values, **kwargs)

        option = click.option(
            "--store", "--db", "store", metavar="URL", help=f"The store, in place of STORE. [env: {VARIABLE}]"
        )
        return click.argument("words", nargs=-1, metavar=" ".join(shown))(option(with_keys(wrapper)))

    return decorate


@overload
def named(url: str, keys: str | None, tenant: str | None, target: str | None = None) -> Address: ...
@overload
def named(url: str | None, keys: str | None, tenant: str | None) -> Address | None: ...
def named(url: str | None, keys: str | None, tenant: str | None, target: str | None = None) -> Address | None:
    """The store that a command line names; None without one.

    ERR_INVALID_INPUT where its own options have keys or a tenant, and there is no store that they could open: a server
    opens its own. The environment may name some all the same.
    """
    store = Address(url, keys, tenant) if url else None
    places = [each for each in (store, Address(target) if target else None) if each is not None]
    if all(each.is_server for each in places):
        of, why = (
            click.get_current_context().get_parameter_source,
            "a server opens its own" if places else "none is named",
        )
        for option in ("keys", "tenant"):
            if of(option) is click.core.ParameterSource.COMMANDLINE:
                raise InvalidInput(f"--{option} is for a sealed store, and {why}: leave it out")
    return store


def _parameter(name: str) -> str:
    """The parameter of a command for what its help calls ``name``: a RUN is given by its id."""
    return "id" if name == "RUN" else name.lower()


def with_keys(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--keys`` and ``--tenant``, which open a sealed store."""
    tenant = click.option("--tenant", envvar=TENANT, show_envvar=True, help="What a sealed store was sealed for.")
    keys = click.option("--keys", metavar="FILE", envvar=KEYS, show_envvar=True, help="The keys of a sealed store.")
    decorated: Callable[..., Any] = keys(tenant(command))
    return decorated


def reading(
    store: Address,
    work: Callable[[Runtime], Coroutine[Any, Any, Any]],
    codec: Codec | None = None,
    workflows: Sequence[Workflow] = (),
) -> Any:
    """Do ``work`` with a runtime that knows ``workflows``, on a store opened read-only: it works beside its writer."""
    return asyncio.run(_with(lambda: opened_to_read(store), work, codec or showing(), workflows))


def writing(
    store: Address,
    work: Callable[[Runtime], Coroutine[Any, Any, Any]],
    codec: Codec | None = None,
    workflows: Sequence[Workflow] = (),
) -> Any:
    """Do ``work`` with a runtime that runs ``workflows``, on a store opened to write."""

    async def checked(runtime: Runtime) -> Any:
        await check_seal(runtime)
        return await work(runtime)

    return asyncio.run(_with(lambda: opened_to_write(store), checked, codec or showing(), workflows))


def writing_to_run(store: Address, id: str, work: Callable[[Runtime], Coroutine[Any, Any, Any]]) -> Any:
    """As ``writing``, once it is known that the run is there: a store that is not there is not created."""
    reading(store, lambda runtime: runtime.get_execution(id), showing())
    return writing(store, work)


async def check_seal(runtime: Runtime) -> None:
    """ERR_STORE where the store can't be read with the keys that were given, before anything is written to it.

    Without it, what is written with no keys would lie plain in a sealed store.
    """
    refused: UnreadableValue | None = None
    for entry in await runtime.host.list(keys.RECORDS, "", _PROBE):
        try:
            runtime.store.opened(entry)
        except UnreadableValue as error:
            refused = refused or error
        except AlkalineError:
            return  # damaged, or of a type that is not known here: it is not the seal
        else:
            return
    if refused is not None:
        raise refused


async def _with(
    opened: Callable[[], Host],
    work: Callable[[Runtime], Coroutine[Any, Any, Any]],
    codec: Codec,
    workflows: Sequence[Workflow],
) -> Any:
    host = opened()
    try:
        async with Runtime(host, workflows=workflows, codec=codec) as runtime:
            return await work(runtime)
    finally:
        await host.close()


def opened_to_read(store: Address) -> Host:
    """The host of ``store``, read-only; ERR_NOT_FOUND for a file that is not there."""
    seal = seal_of(store)
    try:
        return seal(open_host(store.url, read_only=True))
    except NotFound as error:
        raise NotFound(f"{str(error).split(':', 1)[0]}: check the path of the store") from error


def opened_to_write(store: Address) -> Host:
    """The host of ``store``; ERR_CONFLICT, with what to do, for a file that another process writes."""
    seal = seal_of(store)
    try:
        return seal(open_host(store.url))
    except ConflictError as error:
        if _LOCKED not in str(error):
            raise
        who = str(error).split(":", 1)[0]
        raise ConflictError(
            f"{who}: a file has one writer, so do this from that process (Runtime has the same methods), or stop it "
            "and try again; list, show, events, export and diff work beside it"
        ) from error


def showing() -> Codec:
    """A codec to read and to move with: values of registered types need no class, and go as they came."""
    return ForeignCodec()
