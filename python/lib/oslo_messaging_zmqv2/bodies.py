"""Bodies of messages: the envelope of oslo.messaging, as in ``docs/wire-protocol.md``."""

import uuid
from collections.abc import Mapping
from typing import Any, cast

from oslo_messaging._drivers import common
from oslo_serialization import jsonutils

_CONTEXT = "_context_"


def dumps(message: Any, envelope: bool = True) -> bytes:
    """The bytes of a message."""
    return cast(
        bytes, jsonutils.dump_as_bytes(common.serialize_msg(message) if envelope else message)
    )


def loads(body: bytes) -> Any:
    """The message in a body. Raises `ValueError` or one of oslo.messaging's if it is none."""
    return common.deserialize_msg(jsonutils.loads(body))


def request(ctxt: Any, message: Mapping[str, Any], envelope: bool = True) -> bytes:
    """The body of a request or a notification. Neither argument is changed."""
    packed = dict(message)
    packed["_unique_id"] = uuid.uuid4().hex
    items = ctxt if isinstance(ctxt, Mapping) else ctxt.to_dict()
    packed.update((f"{_CONTEXT}{key}", value) for key, value in items.items())
    return dumps(packed, envelope)


def unpacked(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The context and the message of a request or a notification.

    Raises `ValueError` or an exception of oslo.messaging if it is none.
    """
    message = loads(body)
    if not isinstance(message, dict):
        raise ValueError(f"the message is a {type(message).__name__}, not an object")
    ctxt: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for key, value in message.items():
        if key.startswith(_CONTEXT):
            ctxt[key[len(_CONTEXT) :]] = value
        elif key not in ("_unique_id", "_msg_id", "_reply_q", "_timeout"):
            plain[key] = value
    return ctxt, plain


def result(value: Any) -> bytes:
    """The body of a reply."""
    return dumps({"result": value})


def failure(exc_info: Any) -> bytes:
    """The body of a reply with an exception."""
    return dumps({"failure": common.serialize_remote_exception(exc_info)})


def answer(body: bytes, is_failure: bool, allowed_modules: list[str]) -> Any:
    """The result in the body of a reply. Raises the exception in it, if the reply is a failure."""
    message = loads(body)
    if is_failure or message.get("failure"):
        raise common.deserialize_remote_exception(message["failure"], allowed_modules)
    return message.get("result")
