"""Names of exchanges, topics and servers.

zmqv2 allows printable ASCII without spaces, ``/`` and ``\\``. Other drivers allow more, so the
driver writes every other byte as ``%`` and two hexadecimal digits.
"""

import functools

import oslo_messaging

#: The longest name on the wire, in bytes.
LONGEST = 255

_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b"/\\%")


@functools.lru_cache(maxsize=4096)
def encoded(name: str, what: str = "name") -> str:
    """The name as zmqv2 allows it. Raises `InvalidTarget` if it is empty or too long."""
    if not isinstance(name, str) or not name:
        raise oslo_messaging.InvalidTarget(
            f"The {what} of a target is a text that is not empty", name
        )
    if name in (".", ".."):
        return name.replace(".", "%2E")
    text = "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}"
        for byte in name.encode("utf-8", "surrogatepass")
    )
    if len(text) > LONGEST:
        raise oslo_messaging.InvalidTarget(
            f"The {what} has {len(text)} bytes (each byte that is not plain counts as three), "
            f"the limit is {LONGEST}",
            f"{text[:40]}...",
        )
    return text
