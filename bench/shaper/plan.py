"""What is run, and how much of it one circuit can pay for."""

from bwrouter.wire import sizes as S

UPLINKS = (2, 10, 40, 300)  # Mbit/s
KINDS = {"voip": 6.0, "web": 10.0, "steps": 12.0, "bulk": 10.0}  # households, and for how many seconds
SETTLE = 2.0  # the relay alone, before the household's first packet
MORE = 1.2  # of the uplink: what the buyer sends
PAID_FOR = S.SERIALS_MAX * S.TICKET_UNITS[0] * S.UNIT  # bytes: all tickets of a circuit
SPARE = 0.6  # of that: a run takes a little longer than its household


def parts(mbps: int, kinds: list[str]) -> list[list[str]]:
    """The households that one circuit serves: its tickets are not without end."""
    if sum(KINDS[k] for k in kinds) * mbps * MORE * 1e6 / 8 < SPARE * PAID_FOR:
        return [kinds]
    return [[k] for k in kinds]
