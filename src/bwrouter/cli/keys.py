"""`bwrouter keys ...`: make, show, back up and restore the router's keys."""

import json

from ..agent import keys
from . import most, settings_of


def init(words, options):
    most(words, 0)
    state_dir = settings_of(options)["state_dir"]
    made = keys.make(state_dir)
    shown = keys.load(state_dir).public()
    shown["made"] = made
    _show(shown, options)


def show(words, options):
    most(words, 0)
    _show(keys.load(settings_of(options)["state_dir"]).public(), options)


def _show(values, options):
    if options["json"]:
        print(json.dumps(values))
        return
    for name in sorted(values):
        value = values[name]
        print(name + " " + (value if isinstance(value, str) else ", ".join(value) or "none"))
