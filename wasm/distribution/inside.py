"""Runs inside Pyodide: compiles the archives below ``/stage``, then packs each again so that its bytes are fixed.

Inside, since bytecode must come from the very Python that will read it, and since another zlib on the host would
give other bytes. The compiler is pyodide-build's ``py-compile``, a pure package, mounted at ``/host``.
"""

import sys
import zipfile
from pathlib import Path

sys.path.append("/host")

from pyodide_build._py_compile import _py_compile_archive_dir

FIRST_TIME = (1980, 1, 1, 0, 0, 0)


def pack_again(path: Path) -> None:
    """Rewrite the archive with one time, one mode and one compression for all of its entries, sorted by name."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in sorted(archive.namelist()) if not name.endswith("/")]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name, FIRST_TIME)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, compresslevel=9)


for directory in sorted(Path("/stage").iterdir()):
    _py_compile_archive_dir(directory, keep=False, verbose=False)
    for path in directory.iterdir():
        pack_again(path)
