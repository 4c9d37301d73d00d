"""Compressed request bodies: unpacked within the limit that holds for plain ones, never further."""

import zlib

from router.errors import BodyTooLarge, InvalidRequest

ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What zlib calls each content coding."""


def unpacked(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The plain body. Raises InvalidRequest for what is not so packed, BodyTooLarge at the limit: a kilobyte can hold a
    gigabyte.

    >>> unpacked(zlib.compress(b"{}"), "deflate", 100)
    b'{}'
    """
    stream = zlib.decompressobj(ENCODINGS[encoding])
    try:
        plain = stream.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the request body is not {encoding}, as its content-encoding says: {error}") from None
    if len(plain) > limit_bytes:
        raise BodyTooLarge(f"the request body is larger than {limit_bytes} bytes once unpacked, the server's limit")
    if not stream.eof:
        raise InvalidRequest(f"the {encoding} request body ends too early")
    return plain
