"""Text recognition on this machine's CPU, for pictures that no model can see."""

import asyncio
import functools
import io
import os
from typing import Any

LINES_APART = 0.6


async def recognised(pictures: tuple[bytes, ...]) -> str:
    """The lines of text in the pictures, from top to bottom; about a second a screenshot. One call at a time."""
    return "\n\n".join([text for one in pictures if (text := await asyncio.to_thread(_recognise, one))])


def _recognise(picture: bytes) -> str:
    import numpy as np
    from PIL import Image

    found = _engine()(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))[:, :, ::-1])
    if found.txts is None:
        return ""
    return "\n".join(_lines(list(zip(found.boxes, found.txts, strict=True))))


def _lines(pieces: list[tuple[Any, str]]) -> list[str]:
    """Pieces of text at about the same height make a line, read from left to right."""
    lines: list[list[tuple[float, float, float, str]]] = []
    for box, text in sorted(pieces, key=lambda piece: float(piece[0][0][1])):
        top, bottom, left = float(box[0][1]), float(box[2][1]), float(box[0][0])
        if lines and top - lines[-1][0][0] < LINES_APART * (lines[-1][0][1] - lines[-1][0][0]):
            lines[-1].append((top, bottom, left, text))
        else:
            lines.append([(top, bottom, left, text)])
    return [" ".join(text for *_, text in sorted(line, key=lambda piece: piece[2])) for line in lines]


@functools.cache
def _engine() -> Any:
    """rapidocr with the models of its own package, on at most two threads; it takes a second to load."""
    import logging

    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.WARNING)
    threads = min(2, os.cpu_count() or 1)
    options = "EngineConfig.onnxruntime"
    return RapidOCR(params={f"{options}.intra_op_num_threads": threads, f"{options}.inter_op_num_threads": 1})
