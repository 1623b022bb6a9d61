"""The pages of the trap site: every trap that a crawler meets, by host and path."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field

DOMAIN = "falle.example"
WWW = f"www.{DOMAIN}"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
SITEMAP = '<?xml version="1.0"?><{0} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{1}</{0}>'


@dataclass(frozen=True)
class Answer:
    """What the site says at an address. Answers 200 have an ETag, so that they can be asked for conditionally."""

    body: bytes = b""
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def _html(title: str, body: str, head: str = "") -> bytes:
    return f"<html lang=de><head><title>{title}</title>{head}</head><body><main>{body}</main></body></html>".encode()


def _page(title: str, *links: str, head: str = "") -> Answer:
    anchors = " ".join(f'<a href="{link}">{link}</a>' for link in links)
    return Answer(_html(title, f"<h1>{title}</h1><p>Alles zu {title}.</p>{anchors}", head))


def _to(target: str, status: int = 301) -> Answer:
    return Answer(status=status, headers={"Location": target})


def _text(body: str) -> Answer:
    return Answer(body.encode(), "text/plain")


def _list(kind: str, *places: str) -> bytes:
    entry = {"urlset": "url", "sitemapindex": "sitemap"}[kind]
    return SITEMAP.format(kind, "".join(f"<{entry}><loc>{place}</loc></{entry}>" for place in places)).encode()


def without_end(host: str, path: str) -> Answer | None:
    """Pages that are made up as they are asked for: a calendar, a path into itself, hosts with ten pages each."""
    if host == WWW and path.startswith("/kalender/"):
        year, month = map(int, path.removeprefix("/kalender/").split("/"))
        after = year * 12 + month
        return _page(f"Termine {month}/{year}", f"/kalender/{after // 12}/{after % 12 + 1:02}")
    if host == WWW and path.startswith("/schleife/"):
        return _page(f"Schleife {len(path)}", "schleife/")
    if host.endswith(".viele.example"):
        return _many(int(host.partition(".")[0].removeprefix("h")), path)
    return None


def _many(number: int, path: str) -> Answer | None:
    if path == "/":
        others = [f"http://h{other}.viele.example/" for other in range(1, 8) if other != number]
        return _page(f"Host {number}", *others, *(f"/seite-{page}.html" for page in range(1, 10)))
    return _page(f"Seite {path} von {number}") if path.startswith("/seite-") else None


def _shaky(times: int) -> Answer:
    """Overloaded when it is asked for the first time."""
    if times == 1:
        return Answer(b"later", status=503, headers={"Retry-After": "1"})
    return _page("Wackelig")


NOT_FOUND = Answer(_html("404", "nicht gefunden"), status=404)
START_LINKS = (
    # one page in many spellings, and views of it
    "/a.html", "/a.html?utm_source=brief&utm_medium=mail", "/a.html#abschnitt", "/./weg/../a.html",
    f"HTTP://{WWW.upper()}:80/a%2Ehtml", "/a.html?print=1", "/doppelt.html", "/kanon?sicht=2", "/kanon-kaputt.html",
    "/sitzung.html;jsessionid=1A2B", "/sitzung.html?PHPSESSID=99", "/sitzung.html", "/de/seite.html",
    # rules
    "/intern/geheim.html", "/intern/offen.html", "/suche?action=los", "/noindex.html", "/nofollow.html",
    # redirects, and addresses without end
    "/weiter", "/kette/1", "/kreis", "/zum-nachbarn", "/nach-innen/1", "/nach-innen/2", "/nach-innen/3",
    "/kalender/2026/11", "/schleife/", "/" + "lang" * 600,
    # files
    "/gross.html", "/endlos.html", "/bild.JPG", "/daten", "/falsch.pdf", "/info.pdf",
    "/header-luegt.html", "/meta-latin.html", "/doch-utf8.html",
    # trouble
    "/fehlt.html", "/kaputt.html", "/wackelig.html",
    # other hosts, ours and not
    f"http://{DOMAIN}/", f"http://bib.{DOMAIN}/", f"http://zu.{DOMAIN}/", f"http://langsam.{DOMAIN}/traege.html",
    f"http://tot.{DOMAIN}/", "http://fremd.example/", f"http://{DOMAIN}.boese.example/", f"http://asta-{DOMAIN}/",
    "http://[::ffff:169.254.169.254]/latest/", f"http://nutzer@{WWW}/",
    # no addresses of pages
    "mailto:info@falle.example", "javascript:alert(1)", "http://[kaputt/",
)  # fmt: skip

# A callable is told how often its address has been asked for, this time included.
SITE: dict[tuple[str, str], Answer | Callable[[int], Answer]] = {
    (WWW, "/robots.txt"): _text(
        f"User-agent: *\nDisallow: /intern/\nAllow: /intern/offen\nDisallow: /*?action=\nSitemap: http://{WWW}/sitemap.xml\n"
    ),
    (WWW, "/sitemap.xml"): Answer(_list("sitemapindex", f"http://{WWW}/sitemap-1.xml.gz"), "application/xml"),
    (WWW, "/sitemap-1.xml.gz"): Answer(
        gzip.compress(
            _list("urlset", f"http://{WWW}/nur-sitemap.html", "http://fremd.example/untergeschoben.html"), mtime=0
        ),
        "application/gzip",
    ),
    (WWW, "/nur-sitemap.html"): _page("Nur in der Sitemap"),
    (WWW, "/"): _page("Start", *START_LINKS),
    (WWW, "/a.html"): _page("A", "/", "/a.html"),
    (WWW, "/intern/offen.html"): _page("Offen"),
    (WWW, "/intern/geheim.html"): _page("Geheim"),
    (WWW, "/weiter"): _to("/ziel.html"),
    (WWW, "/ziel.html"): _page("Ziel"),
    **{(WWW, f"/kette/{step}"): _to(f"/kette/{step + 1}", 302) for step in range(1, 9)},
    (WWW, "/kreis"): _to("/kreis"),
    (WWW, "/zum-nachbarn"): _to(f"//{DOMAIN}.boese.example/weiter", 302),
    (WWW, "/nach-innen/1"): _to("http://10.0.0.1/", 302),
    (WWW, "/nach-innen/2"): _to("http://127.0.0.1/geheim", 302),
    (WWW, "/nach-innen/3"): _to("http://169.254.169.254/latest/meta-data", 307),
    (WWW, "/sitzung.html"): _page("Sitzung"),
    (WWW, "/gross.html"): Answer(b"x" * 300_000),
    (WWW, "/daten"): Answer(b"{}", "application/json"),
    (WWW, "/falsch.pdf"): Answer(_html("Fehler", "Bitte anmelden"), "application/pdf"),
    (WWW, "/info.pdf"): Answer(PDF, "application/pdf"),
    (WWW, "/header-luegt.html"): Answer("<p>Öffnungszeiten</p>".encode("cp1252")),
    (WWW, "/meta-latin.html"): Answer("<meta charset=iso-8859-1><p>Gebühr 5 €</p>".encode("cp1252"), "text/html"),
    (WWW, "/doch-utf8.html"): Answer("<p>Prüfungsamt</p>".encode(), "text/html; charset=iso-8859-1"),
    (WWW, "/noindex.html"): _page(
        "Nicht für den Index", "/aus-noindex.html", head='<meta name="robots" content="noindex">'
    ),
    (WWW, "/aus-noindex.html"): _page("Von einer Seite ohne Index"),
    (WWW, "/nofollow.html"): _page("Keine Links", "/nie.html", head='<meta name="robots" content="nofollow">'),
    (WWW, "/doppelt.html"): _page("A", "/", "/a.html"),
    (WWW, "/kanon?sicht=2"): _page("Kanon", head='<link rel="canonical" href="/kanon">'),
    (WWW, "/kanon"): _page("Kanon", head='<link rel="canonical" href="/kanon">'),
    (WWW, "/kanon-kaputt.html"): _page("Kanon kaputt", head='<link rel="canonical" href="/gibt-es-nicht">'),
    (WWW, "/de/seite.html"): _page("Seite", head='<link rel="alternate" hreflang="en" href="/en/page.html">'),
    (WWW, "/en/page.html"): _page("Page", head='<link rel="alternate" hreflang="de" href="/de/seite.html">'),
    (WWW, "/kaputt.html"): Answer(b"broken", status=500),
    (WWW, "/wackelig.html"): _shaky,
    ("www.sicher.example", "/"): _page("Sicher", "https://falsch.sicher.example/"),
    (DOMAIN, "/"): _to(f"http://{WWW}/"),
    (f"bib.{DOMAIN}", "/robots.txt"): _text("User-agent: *\nCrawl-delay: 0.3\n"),
    (f"bib.{DOMAIN}", "/"): _page("Bibliothek", *(f"/{page}.html" for page in range(4))),
    **{(f"bib.{DOMAIN}", f"/{page}.html"): _page(f"Bestand {page}") for page in range(4)},
    (f"zu.{DOMAIN}", "/robots.txt"): Answer(b"broken", status=503),
    (f"zu.{DOMAIN}", "/"): _page("Zu"),
    (f"langsam.{DOMAIN}", "/traege.html"): _page("Träge"),
}
