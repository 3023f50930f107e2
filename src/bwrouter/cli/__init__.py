"""`bwrouter <command>`: the two processes, and what an owner asks on the router's shell.

Each command's function takes (words after the command, options) and returns an exit code. It is imported when it is
asked for: each import takes time and memory on a small router.
"""

import sys

USAGE = """usage: bwrouter <command> [--config FILE] [--json] [--yes]

  status         what the agent says: rate and why, stake, tickets, gateways, earnings
  caps           the sharing caps that hold, and the rate they allow now
  pause TIME     share nothing for TIME (1h, 90m), until `tomorrow`, or `off` to go on; without TIME: until when
  probe          measure the uplink while buyers use it; status shows what was found
  earnings       what was earned, posted and paid, proved against the chain
  verdicts       what verifiers found when they audited this router
  stake          the stake on chain; with --yes, make it now as stake_wei says
  unstake        give notice of taking the stake back; wants --yes
  claim          the claim that anybody may send to the chain, should the gateway not
  challenge      the challenge of a root that holds less than the gateway's receipt, which anybody may send
  check          settings, keys and what the system must have; exit code 1 when something is missing
  keys init      make the key files that are missing
  keys show      public keys and the wallet's address
  keys backup FILE    write the keys to FILE, encrypted with a passphrase
  keys restore FILE   take the keys from FILE; wants --yes when there are others, which are put aside
  version
  agent, relay   the two processes; --service: as procd runs them

FILE of --config is /var/run/bwrouter/config.json unless given. --passphrase-file FILE: its first line, instead of
asking. Exit codes: 0 good, 1 not, 2 wrong usage or setting."""
CONFIG = "/var/run/bwrouter/config.json"
EPIPE = 32
_COMMANDS = {
    "agent": "service",
    "relay": "service",
    "status": "show",
    "caps": "show",
    "verdicts": "show",
    "version": "show",
    "pause": "pause",
    "probe": "pause",
    "check": "check",
    "earnings": "money",
    "claim": "money",
    "challenge": "money",
    "stake": "money",
    "unstake": "money",
    "keys init": "keys",
    "keys show": "keys",
    "keys backup": "keys",
    "keys restore": "keys",
}
_VALUES = ("config", "passphrase-file")  # options with a value
_FLAGS = ("json", "yes", "service")


class Usage(Exception):
    """A wrong command line; the text says what is wrong."""


def main(arguments):
    """Run one command line (without the program's name); returns the exit code."""
    from ..platform.config import ConfigError

    try:
        words, options = parse(arguments)
        if options["help"]:
            print(USAGE)
            return 0
        name = " ".join(words[:2]) if words[:1] == ["keys"] else " ".join(words[:1])
        if name not in _COMMANDS:
            raise Usage("unknown command: " + (" ".join(words) or "none given"))
        module = __import__("bwrouter.cli." + _COMMANDS[name], None, None, ["x"])
        return getattr(module, name.replace("keys ", ""))(words[len(name.split(" ")) :], options) or 0
    except Usage as error:
        say(str(error) + "\n" + USAGE)
    except ConfigError as error:
        say(str(error))
    except OSError as error:
        if error.args[:1] != (EPIPE,):  # who reads us has read enough
            say(text_of(error))
        return 1
    return 2


def text_of(error):
    """An OSError in words: MicroPython gives some as a bare number."""
    from ..platform import ffi

    text = str(error)
    return ffi.reason(int(text)) if text.isdigit() else text


def parse(arguments):
    """(command words, options) of a command line. Raises Usage."""
    words, options = [], {"config": CONFIG, "passphrase-file": "", "help": False}
    for flag in _FLAGS:
        options[flag] = False
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word[2:].partition("=")
        if word[:2] == "--" and name in _VALUES:
            if not equals and not rest:
                raise Usage("--" + name + " wants a file")
            options[name] = value if equals else rest.pop(0)
        elif word[:2] == "--" and word[2:] in _FLAGS:
            options[word[2:]] = True
        elif word in ("--help", "-h", "help"):
            options["help"] = True
        elif word == "--version":
            words.append("version")
        elif word[:1] == "-" and word != "-":
            raise Usage("unknown option: " + word)
        else:
            words.append(word)
    return words, options


def say(text):
    sys.stderr.write("bwrouter: " + text + "\n")


def settings_of(options):
    """The settings of --config. Raises ConfigError."""
    from ..platform import config

    return config.load(options["config"])


def most(words, count):
    """Raise Usage when a command was given more than `count` words."""
    if len(words) > count:
        raise Usage("one word too many: " + words[count])
