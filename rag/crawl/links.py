"""One form for all spellings of an address: host, port, percent signs, dots, fragments, tracking and sessions."""

import re
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit, urlunsplit

import idna

DEFAULT_PORTS = {"http": 80, "https": 443}
# A name whose labels have 63 characters at most, or an IPv6 address.
HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*|[0-9a-f:.]*:[0-9a-f:.]*")
LONGEST_NAME = 253
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
PATH_SAFE = UNRESERVED + "!$&'()*+,;=:@/"
QUERY_SAFE = PATH_SAFE + "?"
# They name the visitor or the way he came, not the page. TYPO3's cHash stays: without it, parameters are refused.
TRACKING = re.compile(
    r"utm_\w+|mtm_\w+|pk_\w+|piwik_\w+|matomo_\w+|_ga|_gl|gclid|gclsrc|dclid|wbraid|gbraid|fbclid|msclkid|yclid|twclid|"
    r"li_fat_id|igshid|mc_[ce]id|_hs(enc|mi)|wt_mc|wt\.mc_id|etcc_\w+",
    re.IGNORECASE,
)
SESSION = re.compile(
    r"phpsessid|jsessionid|aspsessionid\w*|asp\.net_sessionid|sid|sessid|session_?id|fe_typo_user|cfid|cftoken|"
    r"zenid|oscsid|s_id",
    re.IGNORECASE,
)
SESSION_IN_PATH = re.compile(r";(jsessionid|phpsessid|sid)=[^/?;]*", re.IGNORECASE)
# What browsers remove from an address wherever it stands.
INVISIBLE = dict.fromkeys(map(ord, "\t\r\n"))


def canonical(address: str, base: str = "") -> str | None:
    """The one form of an http(s) address, relative ones resolved at `base`; None for what is no such address.

    Addresses with a user name are none: `https://thi.de@evil.example/` leads to evil.example.
    """
    try:
        parts = urlsplit(urljoin(base, address.strip().translate(INVISIBLE).replace("\\", "/")))
        host, port = _host(parts.hostname or ""), parts.port
    except (ValueError, UnicodeError):
        return None
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS or not host or "@" in parts.netloc:
        return None
    netloc = f"[{host}]" if ":" in host else host
    if port and port != DEFAULT_PORTS[scheme]:
        netloc = f"{netloc}:{port}"
    path = _without_dots(_requoted(SESSION_IN_PATH.sub("", parts.path), PATH_SAFE)) or "/"
    return urlunsplit((scheme, netloc, path, _query(parts.query), ""))


def host_of(url: str) -> str:
    """The host's name in lower case, without a port; of a canonical address."""
    return urlsplit(url).hostname or ""


def port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or DEFAULT_PORTS[parts.scheme]


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _host(name: str) -> str:
    name = unquote_to_bytes(name).decode().rstrip(".").lower()
    if not name.isascii():
        name = idna.encode(name, uts46=True).decode("ascii")
    return name if HOST.fullmatch(name) and len(name) <= LONGEST_NAME else ""


def _requoted(text: str, safe: str) -> str:
    """Each byte in the form it must have: unreserved ones plain, `%2F` and its like in capitals, all others quoted."""
    done = []
    for piece in re.split(r"(%[0-9A-Fa-f]{2})", text):
        if re.fullmatch(r"%[0-9A-Fa-f]{2}", piece):
            plain = chr(int(piece[1:], 16))
            done.append(plain if plain in UNRESERVED else piece.upper())
        else:
            done.append(quote(piece, safe=safe))
    return "".join(done)


def _without_dots(path: str) -> str:
    """`a/./b/../c` as `a/c` (RFC 3986, 5.2.4); urljoin leaves absolute addresses alone."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            kept = kept[:1] if len(kept) < 2 else kept[:-1]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)


def _query(query: str) -> str:
    pairs = [pair for pair in _requoted(query, QUERY_SAFE).split("&") if pair and not _names_the_visitor(pair)]
    return "&".join(pairs)


def _names_the_visitor(pair: str) -> bool:
    name = pair.partition("=")[0]
    return bool(TRACKING.fullmatch(name) or SESSION.fullmatch(name))
