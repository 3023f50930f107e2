"""`bwrouter agent` and `bwrouter relay`: the two processes, and what happens when one cannot run."""

from ..agent import faults
from ..platform import config, net, process, sodium
from . import most, say, text_of

# procd starts a process that ended anew after 5 s. One that cannot run waits first, so that a router whose
# settings are wrong or whose flash is full spends its CPU on something better, and the log stays readable.
HOLD_S = 55


def agent(words, options):
    from .. import agent as part

    return run("agent", part.main, words, options)


def relay(words, options):
    from .. import relay as part

    return run("relay", part.main, words, options)


def run(name, work, words, options):
    """Run `work` until it ends. Under --service a failure is kept for `bwrouter status` and held for HOLD_S."""
    most(words, 0)
    path = options["config"]
    if not options["service"]:
        sodium.ready()
        work(path)
        return 0
    # The settings may be what is wrong; their file lies in run_dir.
    run_dir = path[: path.rfind("/")] or "."
    faults.clear(run_dir, name)
    try:
        sodium.ready()
        work(path)
        return 0
    except config.ConfigError as error:
        text, code = str(error), 2
    except OSError as error:
        text, code = text_of(error), 1
    except Exception as error:
        process.print_error(error)
        text, code = "ended by " + repr(error), 1
    faults.write(run_dir, name, text)
    say(name + ": error: " + text + "; tried again in a minute")
    hold()
    return code


def hold():
    """HOLD_S, or until SIGTERM, which must be read: see relay/relay.py."""
    signals = process.Signals()
    net.Poller([signals.fd]).wait(1000 * HOLD_S)
    signals.close()
