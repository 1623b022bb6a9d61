"""Files that students give: checked, then read. Raises BadFile, whose `why` is a name in texts."""

import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import EngineError
from rag.answer.states import Document

MOST_FILES = 4
LARGEST_MB = 20
MOST_PIXELS = 40_000_000
MOST_PAGES = 600
MOST_CHARACTERS = 2_000_000
# What vision models look at; more only costs time on the way.
LONGEST_SIDE = 1280
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
TEXTS = (".txt", ".md", ".csv", ".tex", ".rst")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
TAKEN = ["image", ".pdf", *TEXTS]


class BadFile(EngineError):
    def __init__(self, why: str, name: str) -> None:
        self.why, self.name = why, name
        super().__init__(f"{name}: {why}")


@dataclass(frozen=True)
class Attached:
    """Pictures as JPEG without metadata, and the texts of documents."""

    pictures: tuple[bytes, ...] = ()
    documents: tuple[Document, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for one in self.pictures)


def read(paths: Sequence[Path]) -> Attached:
    """Blocks for as long as a large PDF takes: call it in a thread."""
    pictures, documents = [], []
    for path in paths[:MOST_FILES]:
        if path.stat().st_size > LARGEST_MB * 1_000_000:
            raise BadFile("file_large", path.name)
        kind = path.suffix.lower()
        if kind in PICTURES:
            pictures.append(picture(path.read_bytes(), path.name))
        elif kind == ".pdf":
            documents.append(Document(path.name, pdf_text(path)))
        elif kind in TEXTS:
            documents.append(Document(path.name, plain_text(path)))
        else:
            raise BadFile("file_kind", path.name)
    return Attached(tuple(pictures), tuple(documents))


def picture(data: bytes, name: str) -> bytes:
    """The picture upright, scaled and as JPEG, with nothing of its metadata left.

    Its size is read from the header and judged before anything is decoded: a small file can hold a huge picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise BadFile("file_large", name)
                opened.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
                upright = ImageOps.exif_transpose(opened)
                upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
                return _jpeg(_on_white(upright))
    except UnidentifiedImageError as error:
        raise BadFile("file_kind", name) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadFile("file_large", name) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise BadFile("file_broken", name) from error


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        white.alpha_composite(clear)
        return white.convert("RGB")
    return picture.convert("RGB")


def _jpeg(picture: Image.Image) -> bytes:
    bare = Image.new("RGB", picture.size)
    bare.paste(picture)
    out = io.BytesIO()
    bare.save(out, "JPEG", quality=90)
    return out.getvalue()


def pdf_text(path: Path) -> str:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise BadFile("file_locked", path.name)
        if len(reader.pages) > MOST_PAGES:
            raise BadFile("file_large", path.name)
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    except (PyPdfError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFile("file_broken", path.name) from error
    return _some(text, path.name)


def plain_text(path: Path) -> str:
    data = path.read_bytes()
    if b"\0" in data[:4096]:
        raise BadFile("file_kind", path.name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return _some(text, path.name)


def _some(text: str, name: str) -> str:
    if not text.strip():
        raise BadFile("file_empty", name)
    if len(text) > MOST_CHARACTERS:
        raise BadFile("file_large", name)
    return text.strip()
