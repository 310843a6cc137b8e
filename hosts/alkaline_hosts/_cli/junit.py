"""What was found as a file in JUnit's form, which CI systems show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from alkaline_edge.replay import Checked

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(results: Sequence[Checked]) -> bytes:
    """A test case for each history: a failure where the code does not fit, an error for what can't be read."""
    failures = sum(result.verdict in ("diverged", "unknown") for result in results)
    errors = sum(result.verdict == "unreadable" for result in results)
    counts = {"tests": str(len(results)), "failures": str(failures), "errors": str(errors)}
    root = Element("testsuites", counts)
    suite = SubElement(root, "testsuite", {"name": "alkaline check", **counts, "skipped": "0"})
    for result in results:
        case = SubElement(suite, "testcase", {"classname": _text(result.workflow or "?"), "name": _text(result.name)})
        if result.ok:
            continue
        first, *_ = result.message.splitlines() or [""]
        kind = "error" if result.verdict == "unreadable" else "failure"
        told = SubElement(case, kind, {"type": result.verdict, "message": _text(first)})
        told.text = _text(f"{result.message}\nto mend it: {result.mend}" if result.mend else result.message)
    made: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return made + b"\n"


def _text(value: str) -> str:
    """``value`` without what no XML may hold, such as control characters, which are shown as escapes."""
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), value)
