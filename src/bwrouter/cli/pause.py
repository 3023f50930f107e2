"""`bwrouter pause` and `probe`: what the owner asks of the agent by files in run_dir."""

import json

from ..agent import idle
from ..platform import clock, files
from . import Usage, most, settings_of

_UNITS = {"m": 60, "h": 3600, "d": 86400}
LONGEST_S = 31 * 86400


def pause(words, options):
    most(words, 1)
    clock.zone()
    settings = settings_of(options)
    path = settings["run_dir"] + "/pause.json"
    if words:
        if words[0] == "off":
            files.remove(path)
        else:
            if not clock.is_set():
                raise OSError("the time of day is not set yet (NTP), so a pause would not end right: try again later")
            end = until(words[0], clock.unix(), clock.local())
            files.write_atomic(path, json.dumps({"until": end}).encode(), 0o644, False)
    end = standing(path)
    if options["json"]:
        print(json.dumps({"until": end}))
    else:
        print("paused for %d minutes more" % ((end - clock.unix() + 59) // 60) if end else "not paused")


def probe(words, options):
    """Ask the agent for a probing phase."""
    most(words, 0)
    idle.probe(settings_of(options)["run_dir"])
    print("measuring for at most a minute: see `bwrouter status`")


def until(word, now, local):
    """Unix second at which a pause of `word` (`1h`, `90m`, `2d`, `tomorrow`) ends; `local` as of clock.local().

    Raises Usage.
    """
    if word == "tomorrow":
        return now + 86400 - 3600 * local[3] - 60 * local[4] - local[5]
    if not word[:-1].isdigit() or word[-1:] not in _UNITS:
        raise Usage("pause %s: a time is like 1h, 90m or 2d, `tomorrow`, or `off`" % word)
    length = int(word[:-1]) * _UNITS[word[-1]]
    if not 0 < length <= LONGEST_S:
        raise Usage("pause %s: from 1m to %dd; to share no more, set enabled 0" % (word, LONGEST_S // 86400))
    return now + length


def standing(path):
    """Unix second at which the pause in `path` ends; 0 without one."""
    text = files.read(path)
    try:
        end = json.loads(text)["until"] if text else 0
    except (ValueError, KeyError, TypeError):
        return 0
    return end if isinstance(end, int) and end > clock.unix() else 0
