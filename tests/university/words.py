"""What every page of the site repeats: names, menus, footers."""

from typing import Any

SITES = {
    "www": {"de": "Hochschule Auental", "en": "Auental University of Applied Sciences"},
    "bib": {"de": "Bibliothek der Hochschule Auental", "en": "Auental University Library"},
    "it": {"de": "IT-Zentrum Auental", "en": "Auental IT Centre"},
    "international": {"de": "International Office Auental", "en": "International Office Auental"},
    "sport": {"de": "Hochschulsport Auental", "en": "Auental University Sports"},
    "karriere": {"de": "Career Service Auental", "en": "Auental Career Service"},
    "asta": {"de": "AStA der Hochschule Auental", "en": "Auental Students' Union"},
}
# How the hosts show when a page was changed.
DATED = {"www": "meta visible", "bib": "visible", "it": "time", "international": "meta", "sport": "visible"}
SECTIONS = {
    "www/studium": "Studium",
    "www/en/studies": "Studies",
    "www/studiengaenge": "Studiengänge",
    "www/en/programmes": "Degree programmes",
    "www/fakultaeten": "Fakultäten",
    "www/en/faculties": "Faculties",
    "www/service": "Beratung und Service",
    "www/en/services": "Advice and services",
    "www/campus": "Campusleben",
    "www/en/campus": "Campus life",
    "www/aktuelles": "Aktuelles",
    "www/en/news": "News",
}
MENU = {
    "de": [
        ("Studium", "www/studium"),
        ("Studiengänge", "www/studiengaenge"),
        ("Fakultäten", "www/fakultaeten"),
        ("Beratung und Service", "www/service"),
        ("Campusleben", "www/campus"),
        ("Bibliothek", "bib/"),
        ("IT-Zentrum", "it/"),
        ("International", "international/"),
        ("Aktuelles", "www/aktuelles"),
    ],
    "en": [
        ("Studies", "www/en/studies"),
        ("Degree programmes", "www/en/programmes"),
        ("Faculties", "www/en/faculties"),
        ("Advice and services", "www/en/services"),
        ("Campus life", "www/en/campus"),
        ("Library", "bib/en"),
        ("IT Centre", "it/en"),
        ("International", "international/en"),
        ("News", "www/en/news"),
    ],
}
WORDS: dict[str, dict[str, Any]] = {
    "de": {
        "skip": "Zum Inhalt springen",
        "menu": "Hauptmenü",
        "search": "Suche",
        "updated": "Stand",
        "related": "Das könnte Sie auch interessieren",
        "print": "Seite drucken",
        "top": "Nach oben",
        "news": "Aktuelles",
        "footer": "Hochschule Auental · Am Mühlgraben 12 · 00815 Auental · Zentrale +49 69 90009 000",
        "cookies": "Wir verwenden Cookies. Einige sind technisch notwendig, andere helfen uns, besser zu werden.",
        "accept": "Alle akzeptieren",
        "imprint": [("Impressum", "impressum"), ("Datenschutz", "datenschutz"), ("Intern", "intern/dienstplan")],
    },
    "en": {
        "skip": "Skip to content",
        "menu": "Main menu",
        "search": "Search",
        "updated": "Last updated",
        "related": "You may also be interested in",
        "print": "Print this page",
        "top": "Back to top",
        "news": "News",
        "footer": "Auental University of Applied Sciences · Am Mühlgraben 12 · 00815 Auental · Phone +49 69 90009 000",
        "cookies": "We use cookies. Some are technically necessary, others help us to improve this site.",
        "accept": "Accept all",
        "imprint": [("Legal notice", "impressum"), ("Privacy", "datenschutz"), ("Staff", "intern/dienstplan")],
    },
}
