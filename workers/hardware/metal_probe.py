"""Asks Metal for its default device and prints what it says as JSON. A program: a crash in a driver ends here.

Never run on a Mac by its authors. Objective-C by ctypes, as the runtime's own documentation describes it: a message is
``objc_msgSend`` called with the method's signature. CoreGraphics must be loaded for a default device to be found.
"""

import ctypes
import json
import sys
from typing import Any

FRAMEWORKS = "/System/Library/Frameworks"


def main() -> int:
    """Print the device, or one line on stderr saying why not."""
    try:
        objc = ctypes.CDLL("/usr/lib/libobjc.A.dylib")
        ctypes.CDLL(f"{FRAMEWORKS}/CoreGraphics.framework/CoreGraphics")
        metal = ctypes.CDLL(f"{FRAMEWORKS}/Metal.framework/Metal")
    except OSError as error:
        print(f"Metal cannot be loaded: {error}", file=sys.stderr)  # noqa: T201 - a program
        return 1
    objc.sel_registerName.restype = ctypes.c_void_p
    objc.sel_registerName.argtypes = [ctypes.c_char_p]
    metal.MTLCreateSystemDefaultDevice.restype = ctypes.c_void_p
    device = metal.MTLCreateSystemDefaultDevice()
    if not device:
        print("Metal has no default device", file=sys.stderr)  # noqa: T201 - a program
        return 1

    def send(receiver: int, message: str, result: Any) -> Any:
        signature = ctypes.CFUNCTYPE(result, ctypes.c_void_p, ctypes.c_void_p)
        method = signature(ctypes.cast(objc.objc_msgSend, ctypes.c_void_p).value or 0)
        return method(receiver, objc.sel_registerName(message.encode()))

    name = send(device, "name", ctypes.c_void_p)
    said = {
        "name": (send(name, "UTF8String", ctypes.c_char_p) or b"").decode("utf-8", "replace") if name else "",
        "recommendedMaxWorkingSetSize": int(send(device, "recommendedMaxWorkingSetSize", ctypes.c_uint64)),
        "hasUnifiedMemory": bool(send(device, "hasUnifiedMemory", ctypes.c_bool)),
    }
    print(json.dumps(said))  # noqa: T201 - a program
    return 0


if __name__ == "__main__":
    sys.exit(main())
