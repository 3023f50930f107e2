"""Lines on standard error, which procd hands to logd. No secret is ever written."""

import sys

LEVELS = ("debug", "info", "warning", "error")


class Log:
    """Lines `<who>: <level>: <text>` at `level` and above."""

    def __init__(self, who, level):
        self.who = who
        self.least = LEVELS.index(level)
        self._said = {}

    def debug(self, text):
        self._line(0, text)

    def info(self, text):
        self._line(1, text)

    def warning(self, text):
        self._line(2, text)

    def error(self, text):
        self._line(3, text)

    def change(self, topic, text):
        """A warning when what is said about `topic` has changed; empty text: all is well again, said once."""
        if self._said.get(topic, "") != text:
            self._said[topic] = text
            if text:
                self.warning(topic + ": " + text)
            else:
                self.info(topic + ": works again")

    def _line(self, level, text):
        if level >= self.least:
            sys.stderr.write(self.who + ": " + LEVELS[level] + ": " + text + "\n")
