"""What the workflows do to the world, on the raw bindings. None of it runs twice once its step is recorded."""

from js import Object
from pyodide.ffi import to_js
from workers import import_from_javascript


def bindings():
    """The Worker's bindings, also outside of a handler."""
    return import_from_javascript("cloudflare:workers").env


async def put_page(slug: str, content: str, writer: str) -> None:
    """Write a page to KV."""
    options = to_js({"metadata": {"writer": writer}}, dict_converter=Object.fromEntries)
    await bindings().PAGES.put(f"page/{slug}", content, options)


async def get_page(slug: str) -> str | None:
    """A published page, None without one."""
    content = await bindings().PAGES.get(f"page/{slug}")
    return content if isinstance(content, str) else None


async def index_page(slug: str, title: str, day: str) -> None:
    """Note a page in D1. The slug is the key, so noting it again changes nothing."""
    database = bindings().DB
    await database.prepare("CREATE TABLE IF NOT EXISTS pages (slug TEXT PRIMARY KEY, title TEXT, day TEXT)").run()
    await database.prepare("INSERT OR REPLACE INTO pages VALUES (?, ?, ?)").bind(slug, title, day).run()


async def indexed_on(day: str) -> list[str]:
    """Titles of the pages of that day."""
    database = bindings().DB
    await database.prepare("CREATE TABLE IF NOT EXISTS pages (slug TEXT PRIMARY KEY, title TEXT, day TEXT)").run()
    rows = await database.prepare("SELECT title FROM pages WHERE day = ? ORDER BY slug").bind(day).raw()
    return [row[0] for row in rows.to_py()]
