"""ASGI middleware for vLLM: only /health is answered without the replica key."""

import hmac
import os

REFUSAL = b'{"error":{"message":"the key is missing or wrong","type":"invalid_request_error","code":"invalid_api_key"}}'


class Guard:
    def __init__(self, app):
        self.app = app
        self.wanted = b"Bearer " + os.environ["VLLM_API_KEY"].encode()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan" or scope["path"] == "/health" or self.has_key(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})

    def has_key(self, scope):
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self.wanted)
