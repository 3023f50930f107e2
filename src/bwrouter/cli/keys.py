"""`bwrouter keys ...`: make, show, back up and restore the router's keys."""

import json

from ..agent import backup as sealed
from ..agent import keys, status
from ..platform import clock, files, terminal
from . import Usage, most, settings_of


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


def backup(words, options):
    """Write the keys to the file words[0], under a passphrase."""
    file = _file(words, "backup")
    secrets = keys.secrets(settings_of(options)["state_dir"])
    phrase = _passphrase(options, True)
    try:
        text = sealed.seal(secrets, phrase)
    except MemoryError as error:
        raise OSError(str(error))
    files.write_atomic(file, text.encode())
    _show({"file": file, "relay": keys.Keys(*[secrets[name] for name in keys.NAMES]).relay.hex()}, options)


def restore(words, options):
    """Take the keys from the file words[0]. Keys that differ are replaced only with --yes, and put aside."""
    file = _file(words, "restore")
    text = files.read(file)
    if text is None:
        raise OSError("backup " + file + " cannot be read")
    settings = settings_of(options)
    now = status.read(settings["run_dir"])
    if now is not None and clock.unix() - now["time"] <= status.STALE_S:
        raise OSError("the agent is running with the keys that are there: stop the service first")
    try:
        found = sealed.unseal(text.decode(), _passphrase(options, False))
    except (MemoryError, UnicodeError) as error:
        raise OSError(str(error) or "this is no backup of bwrouter's keys")
    state_dir = settings["state_dir"]
    others = [name for name in keys.NAMES if files.read(keys.path(state_dir, name)) not in (None, _line(found[name]))]
    if others and not options["yes"]:
        shown = (state_dir, ", ".join(others))
        raise OSError("other keys are in %s (%s): add --yes to put them aside and use the backup's" % shown)
    aside = state_dir + "/replaced-" + str(clock.unix())
    keys.replace(state_dir, found, aside)
    shown = keys.load(state_dir).public()
    shown["put_aside"] = aside if others else ""
    _show(shown, options)


def _line(secret):
    return secret.hex().encode() + b"\n"


def _file(words, what):
    most(words, 1)
    if not words:
        raise Usage("keys " + what + " wants a file")
    return words[0]


def _passphrase(options, twice):
    """The passphrase: from --passphrase-file, or asked for (twice on a terminal, when it is a new one)."""
    file = options["passphrase-file"]
    if file:
        text = files.read(file)
        if text is None:
            raise OSError("passphrase file " + file + " cannot be read")
        return text.decode().split("\n")[0].strip("\r")
    phrase = terminal.hidden_line("passphrase: ")
    if twice and terminal.interactive() and terminal.hidden_line("once more: ") != phrase:
        raise OSError("the two are not the same: nothing was written")
    return phrase


def _show(values, options):
    if options["json"]:
        print(json.dumps(values))
        return
    for name in sorted(values):
        value = values[name]
        print(name + " " + (value if isinstance(value, str) else ", ".join(value) or "none"))
