"""A small PDF of plain text: A4, Helvetica, headings in bold; no more than the site's few documents need."""

import re
import textwrap

LINES_A_PAGE, CHARACTERS_A_LINE = 50, 92


def pdf(title: str, text: str, date: str) -> bytes:
    """Lines of `text` that begin with # are headings. Encoded as Windows-1252, as most writers do."""
    lines = list(_lines(f"# {title}\n\n{text}"))
    sheets = [lines[at : at + LINES_A_PAGE] for at in range(0, len(lines), LINES_A_PAGE)]
    kids = " ".join(f"{6 + 2 * number} 0 R" for number in range(len(sheets)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (de-DE) >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(sheets)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
        b"<< /Title (" + _string(title) + b") /CreationDate (D:" + date.replace("-", "").encode() + b"090000) >>",
    ]
    for number, sheet in enumerate(sheets):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> "
            + f"/Contents {7 + 2 * number} 0 R >>".encode()
        )
        stream = _stream(sheet)
        objects.append(f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream")
    return _file(objects)


def _lines(text: str) -> list[tuple[bool, str]]:
    out: list[tuple[bool, str]] = []
    for paragraph in re.split(r"\n\s*\n", text):
        heading = paragraph.startswith("#")
        for line in textwrap.wrap(paragraph.lstrip("# "), CHARACTERS_A_LINE):
            out.append((heading, line))
        out.append((False, ""))
    return out


def _stream(sheet: list[tuple[bool, str]]) -> bytes:
    drawn = [b"BT 56 786 Td 15 TL"]
    for heading, line in sheet:
        drawn.append((b"/F2 12 Tf (" if heading else b"/F1 10 Tf (") + _string(line) + b") Tj T*")
    return b"\n".join([*drawn, b"ET"])


def _string(text: str) -> bytes:
    return re.sub(rb"([\\()])", rb"\\\1", text.encode("cp1252"))


def _file(objects: list[bytes]) -> bytes:
    out, places = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    xref = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R /Info 5 0 R >>\n"
    return out + f"{xref}startxref\n{len(out)}\n%%EOF\n".encode()
