"""JSON that was cut short is an error: MicroPython's parser takes `{"a": 1, "b": ` for `{"a": 1}`."""

import json


def loads(text):
    """json.loads, but ValueError for an object or array that does not end."""
    value = json.loads(text)
    if isinstance(value, (dict, list)):
        # What is whole has no use for one more bracket; what was cut short lacks just that.
        try:
            json.loads(text + ("}" if isinstance(value, dict) else "]"))
        except ValueError:
            return value
        raise ValueError("it was cut short")
    return value
