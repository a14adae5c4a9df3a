"""When a message that surely did not run is sent again."""

import time

_FIRST = 0.05
_LONGEST = 1.0


class Retries:
    """The `retry` of oslo.messaging: None or -1 is unlimited, 0 none, and N at most N times."""

    def __init__(self, retry: int | None) -> None:
        self.unlimited = retry is None or retry < 0
        self._left = 0 if retry is None else retry
        self._pause = _FIRST

    def again(self, end: float | None = None) -> bool:
        """Whether to send again. Sleeps before, but not beyond `end` (of `time.monotonic`)."""
        if not self.unlimited:
            if self._left <= 0:
                return False
            self._left -= 1
        pause = self._pause
        self._pause = min(2 * pause, _LONGEST)
        if end is not None and time.monotonic() + pause >= end:
            return False
        time.sleep(pause)
        return True
