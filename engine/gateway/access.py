"""Who may call the control routes."""

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from engine.errors import AccessDenied
from engine.gateway.keys import Key, Keys
from engine.gateway.protocol import Refusal, Refused

NO_KEY = "this needs a key: send `Authorization: Bearer sk-engine-…`; `engine keys create` makes one"
WRONG_KEY = "this key is unknown or revoked; `engine keys list` shows the keys there are"

_bearer = HTTPBearer(auto_error=False, description="a key made by `engine keys create`")
_Credentials = Security(_bearer)


async def any_key(request: Request, credentials: HTTPAuthorizationCredentials | None = _Credentials) -> Key:
    """The caller's key; raises AccessDenied (401)."""
    if credentials is None:
        raise AccessDenied(NO_KEY)
    keys: Keys = request.app.state.keys
    key = await keys.verify(credentials.credentials.encode())
    if key is None:
        raise AccessDenied(WRONG_KEY)
    return key


async def admin_key(request: Request, credentials: HTTPAuthorizationCredentials | None = _Credentials) -> Key:
    """The caller's key of role admin; raises AccessDenied (401) or Refused (403)."""
    key = await any_key(request, credentials)
    if key.role != "admin":
        text = f"key {key.name!r} has role {key.role}; this needs a key of role admin"
        raise Refused(Refusal(403, text, "permission_error", "insufficient_role"))
    return key
