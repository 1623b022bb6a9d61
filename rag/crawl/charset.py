"""In which charset a page is really written: its header, its mark, its meta tag, and its bytes do not always agree."""

import codecs
import re

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
HEADER = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
META_WITHIN = 4096
# What pages call latin 1 is windows-1252 to every browser (WHATWG Encoding Standard).
LATIN = {"iso8859-1", "ascii"}


def charset_of(body: bytes, content_type: str) -> str:
    """A charset of Python that decodes `body`; `content_type` is the header as it came.

    Bytes that are UTF-8 beyond ASCII hardly ever mean anything else, so they outweigh what header and meta tag say.
    """
    for mark, name in MARKS:
        if body.startswith(mark):
            return name
    if not body.isascii() and _decodes(body, "utf-8"):
        return "utf-8"
    for named in (HEADER.search(content_type), META.search(body[:META_WITHIN])):
        name = _known(named[1]) if named else ""
        if name and _decodes(body, name):
            return name
    return "utf-8" if body.isascii() else "cp1252"


def _known(name: str | bytes) -> str:
    try:
        found = codecs.lookup(name if isinstance(name, str) else name.decode("ascii"))
    except (LookupError, UnicodeDecodeError):
        return ""
    return "cp1252" if found.name in LATIN else found.name


def _decodes(body: bytes, name: str) -> bool:
    try:
        # Five bytes mean nothing in windows-1252; a page that has one is still read as it.
        body.decode(name, errors="replace" if name == "cp1252" else "strict")
    except (UnicodeDecodeError, LookupError, ValueError):
        return False
    return True
