"""Serve this page and the Pyodide distribution from one origin on loopback: `python examples/browser_agent/serve.py`.

Any static web server does the same; this one knows where the distribution is built and says so when it is missing.
"""

import argparse
import functools
import http.server
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = "/examples/browser_agent/index.html"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the repository's `examples/browser_agent` and `wasm/dist`, and no others."""

    extensions_map = {  # noqa: RUF012  # the base class's way to say it
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".whl": "application/zip",
    }

    def translate_path(self, path: str) -> str:
        """Where a path is, or a place where nothing is."""
        found = Path(super().translate_path(path)).resolve()
        allowed = (REPOSITORY / "examples" / "browser_agent", REPOSITORY / "wasm" / "dist")
        return str(found if any(found.is_relative_to(folder) for folder in allowed) else REPOSITORY / "nothing")

    def do_GET(self) -> None:
        """A file; the address without a path leads to the page."""
        if self.path in ("", "/"):
            self.send_response(302)
            self.send_header("Location", PAGE)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Only what went wrong."""
        if len(args) > 1 and str(args[1]).startswith(("4", "5")):
            super().log_message(format, *args)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the browser agent on loopback.")
    parser.add_argument("--port", type=int, default=8000, help="0: any free port")
    port = parser.parse_args().port
    if not (REPOSITORY / "wasm" / "dist" / "pyodide-lock.json").is_file():
        sys.exit("The Pyodide distribution is not built yet. Build it first: make -C wasm wasm")
    try:
        handler = functools.partial(Handler, directory=str(REPOSITORY))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        sys.exit(f"Port {port} can't be used ({error.strerror}); name another one: --port 8080")
    with server:
        print(f"The agent is at http://127.0.0.1:{server.server_port}{PAGE} (Ctrl-C to stop)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
