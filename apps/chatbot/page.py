"""The web page around the app: its look, what it may load, and where it is served."""

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.chatbot.files import LARGEST_MB

LOOK = Path(__file__).parent / "look"
# The browser itself sees to it that nothing is loaded from elsewhere; Gradio's own scripts stand in the page.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"permissions-policy", b"geolocation=(), microphone=()"),
]


def page(blocks: gr.Blocks, path: str = "/") -> ASGIApp:
    """A web app that serves the chatbot at `path`, which ends with a slash."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted = gr.mount_gradio_app(
        app,
        blocks,
        path=path.rstrip("/") or "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        show_error=False,
        max_file_size=f"{LARGEST_MB}mb",
        theme=theme(),
        css_paths=LOOK / "style.css",
        head=f"<script>{(LOOK / 'page.js').read_text(encoding='utf-8')}</script>",
        favicon_path=str(LOOK / "favicon.png"),
    )
    return WithHeaders(mounted)


def theme() -> Any:
    """Gradio's plainest theme in our colours, in fonts that are there already."""
    sans = [
        "ui-sans-serif",
        "system-ui",
        "-apple-system",
        "Segoe UI",
        "Noto Sans",
        "Helvetica Neue",
        "Arial",
        "sans-serif",
    ]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(primary_hue="teal", neutral_hue="stone", font=sans, font_mono=mono, radius_size="md")


class WithHeaders:
    """Adds HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers)
