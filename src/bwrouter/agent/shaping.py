"""Keeps the traffic control plan on the WAN: set, followed, undone. The state file says exactly what was done.

It is written before anything is done, so that a process that is killed in between is undone by the next one; `undo`
removes only a root qdisc that bears our handle on the interface that it was put on.
"""

import json

from ..platform import clock, files, tc
from . import shape

LOOK_MS = 30000  # between two looks whether ours is still there
CHANGE_MS = 10000  # between two changes of the rates
CHANGE_PCT = 2
RETRY_MS = 30000


class Shaping:
    """`error`: what is wrong or worth a warning, in words; `on`: whether our plan stands on the WAN."""

    def __init__(self, settings, log, executor=None):
        self.settings = settings
        self.log = log
        self.wan = settings["wan"]
        self.tc = executor or tc.executor(settings["run_dir"], log.debug)
        self.error = ""
        self.on = False
        self._file = settings["run_dir"] + "/shaping.json"
        self._set = (0, 0)  # (line, cap) in kbit/s that the kernel has
        self._index = None
        self._looked = self._changed = self._failed = None
        self._checked = False

    def keep(self, line_kbps, cap_kbps, sure=True):
        """Once a second: make it so, for a line of which the rate is `sure`."""
        if not self.settings["shaper"]:
            self._once()
            return
        now = clock.ms()
        index = _index(self.wan)
        if index is None:
            self._gone("interface %s (setting wan) does not exist" % self.wan)
            return
        if self.on and index != self._index:
            self._gone("")  # made anew: our qdisc went with the old one
        if self.on:
            if self._looked is None or clock.diff(now, self._looked) >= LOOK_MS:
                self._looked = now
                root = self.tc.root(self.wan)
                if root is None or root[1] != shape.HANDLE << 16:
                    self._gone("")
                    return
            self._follow(now, line_kbps, cap_kbps)
        elif not sure:
            self._say("the uplink's rate is not known well enough to shape it: set uplink_kbps, or wait")
        elif self._failed is None or clock.diff(now, self._failed) >= RETRY_MS:
            self._failed = now
            self._apply(index, line_kbps, cap_kbps)

    def undo(self):
        """Take away exactly what was done, by this process or by one that was killed."""
        text = files.read(self._file)
        if text is None:
            return
        try:
            state = json.loads(text)
            wan, index = state["wan"], state["index"]
        except (ValueError, KeyError, TypeError):
            wan, index = self.wan, _index(self.wan)
        if _index(wan) == index:
            root = self.tc.root(wan)
            if root is not None and root[0] == "htb" and root[1] == shape.HANDLE << 16:
                self.tc.clear(wan)
        files.remove(self._file)
        self.on = False

    def status(self):
        return {"wanted": self.settings["shaper"], "on": self.on, "error": self.error, "line_kbps": self._set[0],
                "cap_kbps": self._set[1]}  # fmt: skip

    def _once(self):
        """Not wanted: undo what an earlier run left, and warn of a foreign qdisc that ignores our mark."""
        if self._checked:
            return
        self._checked = True
        self.undo()
        root = self.tc.root(self.wan)
        if root is not None:
            self._say(shape.verdict(*root)[1])

    def _apply(self, index, line, cap):
        self.undo()  # what a killed process left; on another interface, too
        root = self.tc.root(self.wan)
        if root is None:
            self._say("the WAN's qdisc cannot be read: is the package tc-tiny installed?")
            return
        free, warning = shape.verdict(*root)
        if not free:
            self._say(warning)
            return
        port = 0 if self.settings["mark_le"] else self.settings["listen_port"]
        state = {"wan": self.wan, "index": index, "root": "htb", "handle": shape.name(shape.HANDLE << 16)}
        files.write_atomic(self._file, json.dumps(state).encode(), 0o600, False)
        try:
            self.tc.apply(self.wan, shape.plan(line, cap, port), shape.command)
        except tc.TcError as error:
            files.remove(self._file)
            self._say(str(error))
            return
        self._index, self._set, self.on = index, (line, cap), True
        self._looked = self._changed = clock.ms()
        self._say("")

    def _follow(self, now, line, cap):
        far = [abs(new - old) * 100 > old * CHANGE_PCT for new, old in zip((line, cap), self._set)]
        if not any(far) or clock.diff(now, self._changed) < CHANGE_MS:
            return
        self._changed = now
        try:
            self.tc.change(self.wan, shape.changes(line, cap), shape.command)
            self._set = (line, cap)
        except tc.TcError as error:
            self._say(str(error))

    def _gone(self, error):
        """Ours is not there any more: nothing to undo."""
        if self.on or self._index is not None:
            files.remove(self._file)
        self.on, self._index, self._failed = False, None, None
        self._say(error)

    def _say(self, text):
        self.error = text
        self.log.change("shaper", text)


def _index(wan):
    """The interface's index, None when there is no such interface."""
    text = files.read("/sys/class/net/" + wan + "/ifindex")
    return int(text) if text else None
