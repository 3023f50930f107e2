"""`bwrouter <command>`: the two processes, and what an owner asks on the router's shell."""

import json
import os
import sys

USAGE = """usage: bwrouter <command> [--config FILE] [--json] [--yes]

  agent       the control process: keys, stake, descriptor, tickets, rate
  relay       the data process
  status      what the agent says: raw numbers with --json
  earnings    what was earned, posted and paid, proved against the chain
  claim       the claim that anybody may send to the chain, should the gateway not
  unstake     give notice of taking the stake back; wants --yes
  check       settings, keys and what the system must have; exit code 1 when something is missing
  keys init   make the key files that are missing
  keys show   public keys and the wallet's address
  version

FILE is /var/run/bwrouter/config.json unless given. Exit codes: 0 good, 1 not, 2 wrong usage or setting."""
CONFIG = "/var/run/bwrouter/config.json"


class Usage(Exception):
    """A wrong command line; the text says what is wrong."""


def main(arguments):
    """Run one command line (without the program's name); returns the exit code."""
    from .platform.config import ConfigError

    try:
        words, options = parse(arguments)
        if options["help"]:
            print(USAGE)
            return 0
        command = _COMMANDS.get(" ".join(words))
        if command is None:
            raise Usage("unknown command: " + (" ".join(words) or "none given"))
        return command(options) or 0
    except Usage as error:
        _say("bwrouter: " + str(error) + "\n" + USAGE)
    except ConfigError as error:
        _say("bwrouter: " + str(error))
    except OSError as error:
        _say("bwrouter: " + str(error))
        return 1
    return 2


def parse(arguments):
    """(command words, options) of a command line. Raises Usage."""
    words, options = [], {"config": CONFIG, "json": False, "help": False, "yes": False}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--config":
            if not rest:
                raise Usage("--config wants a file")
            options["config"] = rest.pop(0)
        elif word[:9] == "--config=":
            options["config"] = word[9:]
        elif word in ("--json", "--yes"):
            options[word[2:]] = True
        elif word in ("--help", "-h", "help"):
            options["help"] = True
        elif word == "--version":
            words.append("version")
        elif word[:1] == "-":
            raise Usage("unknown option: " + word)
        else:
            words.append(word)
    return words, options


def _say(text):
    sys.stderr.write(text + "\n")


def _settings(options):
    from .platform import config

    return config.load(options["config"])


def _agent(options):
    from . import agent

    agent.main(options["config"])


def _relay(options):
    from . import relay

    relay.main(options["config"])


def _version(options):
    from . import __version__

    print(json.dumps({"version": __version__}) if options["json"] else __version__)


def _status(options):
    from .agent import status
    from .platform import clock

    run_dir = _settings(options)["run_dir"]
    got = status.read(run_dir)
    if got is None:
        if options["json"]:
            print("null")
        _say("bwrouter: no status in " + run_dir + ": the agent is not running")
        return 1
    if options["json"]:
        print(json.dumps(got))
    else:
        for line in status.lines(got, clock.unix()):
            print(line)
    return 0 if clock.unix() - got["time"] <= status.STALE_S else 1


def _keys_init(options):
    from .agent import keys

    state_dir = _settings(options)["state_dir"]
    made = keys.make(state_dir)
    shown = keys.load(state_dir).public()
    shown["made"] = made
    _show(shown, options)


def _keys_show(options):
    from .agent import keys

    _show(keys.load(_settings(options)["state_dir"]).public(), options)


def _show(values, options):
    if options["json"]:
        print(json.dumps(values))
        return
    for name in sorted(values):
        value = values[name]
        print(name + " " + (value if isinstance(value, str) else ", ".join(value) or "none"))


def _owner(options):
    from .agent.agent import check_settings
    from .agent.owner import Owner

    settings = _settings(options)
    check_settings(settings)
    return Owner(settings)


def _earnings(options):
    said = _owner(options).earnings()
    if options["json"]:
        print(json.dumps(said))
    else:
        print("units     %d redeemed, worth %s wei" % (said["units"], said["cumulative_wei"]))
        posted = said["posted"]
        words = "%s wei, epoch %d" % (posted["cumulative_wei"], posted["epoch"]) if posted else "nothing yet"
        print("posted    " + words)
        print("paid      %s wei to %s, which holds %s" % (said["claimed_wei"], said["payout"], said["balance_wei"]))
        proved = said["proved"]
        print("proof     " + ("holds at block %d" % proved["block"] if proved else "FAILS: " + said["proof_error"]))
    return 0 if said["proved"] else 1


def _claim(options):
    found = _owner(options).claim()
    if options["json"]:
        print(json.dumps(found))
        return
    if "data" not in found:
        print("nothing to claim: %s wei are paid to %s" % (found["claimed_wei"], found["account"]))
        return
    when = "now" if found["final"] else "when the challenge window of its root is over"
    print("%s wei are due to %s, %s" % (found["due_wei"], found["account"], when))
    print("The gateway claims by itself. If it does not, any wallet may send this transaction:")
    print("to   " + found["to"])
    print("data " + found["data"])


def _unstake(options):
    if not options["yes"]:
        raise Usage("unstake ends what this router earns until it registers again: add --yes if that is meant")
    sent = _owner(options).unstake()
    print(json.dumps(sent) if options["json"] else "notice given in transaction " + sent["tx"])


def _check(options):
    """Each thing that must be there: (name, what is wrong or empty)."""
    settings = _settings(options)
    from .agent.agent import check_settings

    check_settings(settings)
    found = [("settings", ""), ("keys", _try(_load_keys, settings["state_dir"]))]
    for name, test in (("libsodium", _import_sodium), ("requests", _import_http)):
        found.append((name, _try(test)))
    counter = "/sys/class/net/" + settings["wan"] + "/statistics/tx_bytes"
    found.append(("wan", _try(_readable, counter, "interface " + settings["wan"] + " (setting wan) does not exist")))
    if not settings["gateways"]:
        found.append(("gateways", "none is set: nothing can be earned"))
    if settings["exit"]:
        found.append(("tun", _try(_readable, "/dev/net/tun", "/dev/net/tun is missing: install kmod-tun")))
        for name, command, mend in (("nft", "nft --version", "nftables"), ("ip", "ip -V", "ip-tiny")):
            missing = os.system(command + " >/dev/null 2>&1")
            found.append((name, "`%s` does not work: install %s" % (command, mend) if missing else ""))
    if options["json"]:
        print(json.dumps({name: wrong or "ok" for name, wrong in found}))
    else:
        for name, wrong in found:
            print(name + ": " + (wrong or "ok"))
    return 1 if any([wrong for _, wrong in found]) else 0


def _try(test, *arguments):
    try:
        test(*arguments)
    except Exception as error:  # whatever is wrong is what the owner asks for
        return str(error) or "fails"
    return ""


def _load_keys(state_dir):
    from .agent import keys

    keys.load(state_dir)


def _import_sodium():
    from .platform import sodium

    sodium.blake2b(b"")


def _import_http():
    from .platform import http

    http.canonical({})


def _readable(path, wrong):
    try:
        os.stat(path)
    except OSError:
        raise OSError(wrong)


_COMMANDS = {
    "agent": _agent,
    "relay": _relay,
    "status": _status,
    "check": _check,
    "claim": _claim,
    "earnings": _earnings,
    "unstake": _unstake,
    "keys init": _keys_init,
    "keys show": _keys_show,
    "version": _version,
}
