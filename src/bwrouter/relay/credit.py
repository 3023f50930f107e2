"""Credit of a circuit: tickets, PayWord meters, and what may pass (protocol section 6).

The rule: bytes pass while `left` >= 0. `left` starts at the grace and grows by a unit for each unit paid on a
ticket that
the gateway has confirmed. Units paid on a ticket not yet confirmed wait in `held`.
"""

import binascii

from ..wire import sizes as S
from ..wire import ticket as T

_LEFT_MAX = 1 << 29  # small ints on 32-bit CPUs
ASKED_MOST = 8  # tickets of one circuit that wait for the gateway's word


class Ticket:
    def __init__(self, serial, fields):
        self.key, anchor, self.output, self.units = fields
        self.serial = serial
        self.meter = T.Meter(anchor, self.units)
        self.id = T.ticket_id(anchor)
        self.state = 0  # 0 asked, 1 confirmed, -1 refused
        self.held = 0
        self.reported = 0  # index that the agent has been told
        self.acked = 0  # index that the gateway has redeemed
        self.closed = False

    def open_message(self):
        return {
            "t": "open", "id": _hex(self.id), "key": _hex(self.key), "anchor": _hex(self.meter.anchor),
            "output": _hex(self.output), "units": self.units,
        }  # fmt: skip

    def meter_message(self, final):
        self.reported = self.meter.index
        return {
            "t": "meter", "id": _hex(self.id), "index": self.meter.index, "preimage": _hex(self.meter.word),
            "final": final,
        }  # fmt: skip


class _Refused:
    """Stands in a circuit's list for every ticket that was refused: what strangers make up costs no memory."""

    state = -1


def _hex(raw):
    return binascii.hexlify(raw).decode()


def _grant(c, units):
    c.paid += units
    c.left = min(_LEFT_MAX, c.left + units * S.UNIT)


class Ledger:
    """Every ticket of the relay that is not settled yet, at most `most`. `tell` sends one message to the agent."""

    def __init__(self, tell, most=1024):
        self.tell = tell
        self.most = most
        self.open = {}  # id -> (ticket, circuit or None)

    def pay(self, c, payload):
        """A PAY at this hop. True when anything changed, so that a CREDIT is due. Raises BadPayment."""
        serial, index, word, fields = T.parse_pay(payload)
        if serial < len(c.tickets):
            t = c.tickets[serial]
        elif serial == len(c.tickets) and fields is not None:
            t = self._new(c, serial, fields)
        else:
            raise T.BadPayment("serial")
        if t.state < 0:
            raise T.BadPayment("refused")
        gained = t.meter.pay(index, word)
        if t.state == 1:
            _grant(c, gained)
            if gained:  # at once: what the agent does not know is lost if this process dies
                self.tell(t.meter_message(False))
        else:
            t.held += gained
        return True

    def _new(self, c, serial, fields):
        """A circuit's next ticket: asked about at the gateway, bounded in number before anybody has vouched for it."""
        if serial >= S.SERIALS_MAX:
            raise T.BadPayment("serials")
        if len(self.open) >= self.most or sum([t.state == 0 for t in c.tickets]) >= ASKED_MOST:
            raise T.BadPayment("waiting")
        t = Ticket(serial, fields)
        if t.id in self.open:
            raise T.BadPayment("ticket-in-use")
        c.tickets = c.tickets + (t,)
        self.open[t.id] = (t, c)
        self.tell(t.open_message())
        return t

    def opened(self, message):
        """The agent's answer to an open. Returns the circuit whose CREDIT is due, or None."""
        entry = self.open.get(binascii.unhexlify(message["id"]))
        if entry is None or entry[0].state != 0:
            return None
        t, c = entry
        if message.get("ok"):
            t.state = 1
            if c is not None:
                _grant(c, t.held)
            t.held = 0
            if t.closed:
                self.tell(t.meter_message(True))
        else:
            t.state = -1
            del self.open[t.id]
            if c is not None:
                c.tickets = tuple([_Refused if x is t else x for x in c.tickets])
        return c

    def redeemed(self, message):
        """The gateway holds units up to index: a closed ticket that is wholly redeemed is forgotten."""
        entry = self.open.get(binascii.unhexlify(message["id"]))
        if entry is None:
            return
        t = entry[0]
        t.acked = max(t.acked, message["index"])
        if t.closed and t.acked >= t.meter.index:
            del self.open[t.id]

    def close(self, c):
        """The circuit ends: its tickets' last indices go to the agent."""
        for t in c.tickets:
            if t.state < 0:
                continue
            t.closed = True
            if t.state == 0 and t.meter.index == 0:
                self.open.pop(t.id, None)  # nothing was paid with it, but the gateway may be opening it
                self.tell(t.meter_message(True))
            elif t.id in self.open:
                self.open[t.id] = (t, None)
            if t.state == 1:
                self.tell(t.meter_message(True))

    def credit(self, c):
        """Payload of a CREDIT for `c`."""
        opened = refused = 0
        for serial in range(len(c.tickets)):
            opened |= (c.tickets[serial].state == 1) << serial
            refused |= (c.tickets[serial].state < 0) << serial
        return T.pack_credit(c.used(), c.paid, opened, refused)

    def repeat(self):
        """Every few seconds: say again what the agent has not answered, and what moved."""
        for t, _ in list(self.open.values()):
            if t.state == 0:
                self.tell(t.open_message())
            elif t.closed or t.meter.index > t.reported:
                self.tell(t.meter_message(t.closed))
