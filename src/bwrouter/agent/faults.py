"""Why a process does not run: run_dir/fault-NAME.txt, one line each, for `bwrouter status` and LuCI.

`service` is the init script's, which writes its own; `agent` and `relay` are written when the process gives up.
"""

from ..platform import files

NAMES = ("service", "agent", "relay")


def path(run_dir, name):
    return run_dir + "/fault-" + name + ".txt"


def write(run_dir, name, text):
    """Keep `text`; where even that fails there is the log."""
    try:
        files.write_atomic(path(run_dir, name), text.encode() + b"\n", 0o644, False)
    except OSError:
        pass


def clear(run_dir, name):
    files.remove(path(run_dir, name))


def read(run_dir):
    """{name: text} of those that stand."""
    found = {}
    for name in NAMES:
        text = files.read(path(run_dir, name))
        if text:
            found[name] = text.decode().strip()
    return found
