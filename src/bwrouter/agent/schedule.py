"""When the owner shares: hours of the week, and the pause button. Pure: local time comes in."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 1440
WEEK_MIN = 7 * DAY_MIN


def parse(rule):
    """(set of days 0..6, first minute, end minute) of "mon-fri 22:00-06:00", "sat,sun 0:00-24:00" or "22:00-06:00".

    An end before the begin lies on the next day. Raises ValueError that names the setting.
    """
    try:
        words = rule.lower().split()
        if len(words) == 1:
            words = ["mon-sun"] + words
        days, hours = words
        begin, end = [_minute(text) for text in hours.split("-")]
        if begin == end or begin == DAY_MIN:
            raise ValueError
        return _days(days), begin, end
    except (ValueError, IndexError, AttributeError):
        raise ValueError('setting hours: %r is not allowed; it wants e.g. "mon-fri 22:00-06:00"' % (rule,))


def _minute(text):
    hour, minute = text.split(":")
    if not (hour.isdigit() and minute.isdigit() and len(minute) == 2):
        raise ValueError
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > DAY_MIN:
        raise ValueError
    return value


def _days(text):
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        i = DAYS.index(first)
        j = DAYS.index(last) if dash else i
        found.append(i)
        while i != j:
            i = (i + 1) % 7
            found.append(i)
    return set(found)


def spans(rules):
    """Sorted (begin, end) in minutes of the week, each rule split at the week's end. Raises ValueError: bad, or two
    rules overlap."""
    out = []
    for rule in rules:
        days, begin, end = parse(rule)
        length = (end - begin) % DAY_MIN or DAY_MIN
        for day in days:
            at = day * DAY_MIN + begin
            pieces = [(at, min(at + length, WEEK_MIN), rule)]
            if at + length > WEEK_MIN:
                pieces.append((0, at + length - WEEK_MIN, rule))
            out += pieces
    out.sort()
    for before, after in zip(out, out[1:]):
        if after[0] < before[1]:
            raise ValueError("setting hours: %r and %r overlap" % (before[2], after[2]))
    return [(begin, end) for begin, end, _ in out]


def open_at(rules, weekday, minute):
    """Whether `rules` (spans()) let share at this minute of the day; no rules: always."""
    at = weekday * DAY_MIN + minute
    return not rules or any([begin <= at < end for begin, end in rules])


def paused_until(text, now):
    """Unix seconds until which sharing is paused, 0 when it is not; `text` is pause.json's, None without one.

    A pause longer than a year is taken for damage.
    """
    import json

    try:
        until = json.loads(text)["until"] if text else 0
        return until if isinstance(until, int) and now < until < now + 366 * 86400 else 0
    except (ValueError, KeyError, TypeError):
        return 0
