"""Says on standard output when this Mac is about to sleep and when it is awake again: ``sleep``, ``wake``.

A program. macOS waits (up to 30 seconds) until a line comes on standard input: what runs here has moved. Constants and
calls are those of IOKit/pwr_mgt/IOPMLib.h and IOKit/IOMessage.h (Apple's QA1340). **Not verified**: never run on a Mac.
"""

import ctypes
import os
import sys
import threading
from typing import Any

FRAMEWORKS = "/System/Library/Frameworks"
CAN_SLEEP, WILL_SLEEP, HAS_POWERED_ON = 0xE0000270, 0xE0000280, 0xE0000300
MOVED_WITHIN_S = 10.0

Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)


class Announcer:
    """What macOS is answered; ``allow`` lets it change its power state."""

    def __init__(self, allow: Any, say: Any) -> None:
        self._allow = allow
        self._say = say
        self._moved = threading.Event()

    def heard(self, kind: int, notification: int) -> None:
        """One message of the power manager."""
        if kind == CAN_SLEEP:  # asked before an idle sleep: nothing here keeps a Mac awake
            self._allow(notification)
        elif kind == WILL_SLEEP:
            self._moved.clear()
            self._say("sleep")
            self._moved.wait(MOVED_WITHIN_S)
            self._allow(notification)
        elif kind == HAS_POWERED_ON:
            self._say("wake")

    def listen(self) -> None:
        """A line: it has moved. The end: nobody listens any more."""
        for _ in sys.stdin:
            self._moved.set()
        os._exit(0)


def main() -> int:
    """Until standard input ends."""
    try:
        kit = ctypes.CDLL(f"{FRAMEWORKS}/IOKit.framework/IOKit")
        foundation = ctypes.CDLL(f"{FRAMEWORKS}/CoreFoundation.framework/CoreFoundation")
    except OSError as error:
        print(f"IOKit cannot be loaded: {error}", file=sys.stderr)  # noqa: T201 - a program
        return 1
    kit.IORegisterForSystemPower.restype = ctypes.c_uint32
    kit.IORegisterForSystemPower.argtypes = [ctypes.c_void_p, ctypes.c_void_p, Callback, ctypes.c_void_p]
    kit.IOAllowPowerChange.argtypes = [ctypes.c_uint32, ctypes.c_long]
    kit.IONotificationPortGetRunLoopSource.restype = ctypes.c_void_p
    kit.IONotificationPortGetRunLoopSource.argtypes = [ctypes.c_void_p]
    foundation.CFRunLoopGetCurrent.restype = ctypes.c_void_p
    foundation.CFRunLoopAddSource.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    port, notifier = ctypes.c_void_p(), ctypes.c_uint32()
    root = 0

    def allow(notification: int) -> None:
        kit.IOAllowPowerChange(root, notification)

    announcer = Announcer(allow, lambda word: print(word, flush=True))  # noqa: T201 - a program
    callback = Callback(lambda _context, _service, kind, about: announcer.heard(kind, about or 0))
    root = kit.IORegisterForSystemPower(None, ctypes.byref(port), callback, ctypes.byref(notifier))
    if not root:
        print("the power manager gives no notice", file=sys.stderr)  # noqa: T201 - a program
        return 1
    threading.Thread(target=announcer.listen, daemon=True).start()
    modes = ctypes.c_void_p.in_dll(foundation, "kCFRunLoopCommonModes")
    source = kit.IONotificationPortGetRunLoopSource(port)
    foundation.CFRunLoopAddSource(foundation.CFRunLoopGetCurrent(), source, modes)
    foundation.CFRunLoopRun()
    return 0


if __name__ == "__main__":
    sys.exit(main())
