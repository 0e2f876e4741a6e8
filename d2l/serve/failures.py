"""What goes wrong with a request, in the shape that OpenAI's clients expect."""

from typing import Any

#: OpenAI's name for the kind of failure, by status.
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class RequestError(Exception):
    """A request that is answered with an error: status, one line, and OpenAI's `code` and `param`.

    `code` is such as "model_not_found"; `param` names the field at fault.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }
