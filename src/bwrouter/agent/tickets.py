"""Tickets that the relay opened and has not been paid for: the router's claim on money, kept through crashes.

Each entry has what the gateway needs to redeem it. The book is written to `run_dir` (RAM) whenever it changed and to
`state_dir` (flash) at most once an hour and at the end; a redeem is cumulative, so repeating one does no harm.
"""

import json

from ..platform import clock, files
from . import promises
from . import results as receipts

FILE = "tickets.json"
ASKED_MOST = 128  # tickets at a time; the relay repeats what is not taken
HELD_MOST = 512  # the heap of a small router is 1 MiB
CLOSING_MOST = 128  # what is not told is told by the gateway's clock: the buyer's refund only waits longer
FLASH_MS = 3_600_000
BATCH = 32  # tickets of one request
# Refusals of the gateway that can never turn into a yes.
FINAL_CODES = (
    "unknown", "elsewhere", "index", "preimage", "forged", "expired", "units", "region", "spent", "refunded"
)  # fmt: skip


class Book:
    """`asked`: tickets to open, by id (hex): (key, anchor, output, units). `held`: opened ones, by id: [gateway's key,
    empty for unknown, units, index, preimage, redeemed index, whether the relay is through with it]."""

    def __init__(self, run_dir, state_dir):
        self.run_file = run_dir + "/" + FILE
        self.state_file = state_dir + "/" + FILE
        self.asked = {}
        self.held = {}
        self.closing = {}  # wholly redeemed tickets of which the gateway is to be told that they are final
        self._told = set()  # ids that the last request named as final
        self._asking = set()  # ids of `asked` that a gateway may have opened, whatever became of the request
        self._ended = set()  # of those, the ones whose circuit is no more
        self.redeemed_units = 0  # since the start
        self.receipts = {}  # gateway's key: its receipt for the most units, hex
        self.promises = {}  # gateway's key: its receipts for the chain (promises.add)
        self._names = {}
        self._workers = {}  # relay process of a ticket of this run
        self.refused = {}  # code: how many, since the start
        self._dirty = False
        self._flash_dirty = False
        self._flash_at = clock.ms()
        self._load()

    def _load(self):
        for file in (self.state_file, self.run_file):
            try:
                with open(file) as stream:
                    book = json.load(stream)
                for gateway in book.get("receipts", {}):
                    self._keep_receipt(gateway, book["receipts"][gateway])
                for gateway in book.get("promises", {}):
                    for receipt in book["promises"][gateway]:
                        promises.add(self.promises.setdefault(gateway, []), receipt)
                entries = book.get("tickets", {})
                for id in entries:
                    gateway, units, index, preimage, redeemed, final = entries[id]
                    if id not in self.held or self.held[id][2] < index:
                        gateway = self._names.setdefault(gateway, gateway)
                        self.held[id] = [gateway, units, index, preimage, redeemed, final]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # none, or a damaged one: what the other one has must do
        self._flash_dirty = bool(self.held) or bool(self.promises)

    # -- what the relay says ---------------------------------------------------

    def open(self, message):
        """An `open` of the relay. The answer if it is known already, else None. Raises KeyError when malformed."""
        id = message["id"]
        self._workers[id] = message.get("worker", 0)
        if id in self.held:
            return {"t": "opened", "id": id, "ok": True, "units": self.held[id][1]}
        ticket = message["key"], message["anchor"], message["output"], message["units"]
        self._ended.discard(id)
        if len(self.asked) < ASKED_MOST and len(self.asked) + len(self.held) < HELD_MOST:
            self.asked[id] = ticket
        return None

    def meter(self, message):
        """A `meter` of the relay: True when it is the last of its ticket. Raises KeyError when malformed."""
        id, index, final = message["id"], message["index"], bool(message["final"])
        if final and not index and id in self.asked:
            self._end(id)
            return False
        entry = self.held.get(id)
        if entry is None:
            # Not in the book (it was lost, or the relay missed the last answer): the gateway knows.
            if len(self.held) >= HELD_MOST:
                return False
            entry = self.held[id] = ["", 0, 0, "", 0, False]
        if index > entry[2]:
            entry[2], entry[3] = index, message["preimage"]
            self._dirty = True
        if final and not entry[5]:
            entry[5] = True
            self._dirty = True
        return final

    def relay_restarted(self, worker=None):
        """The relay (its process `worker`, if one is named) forgot its circuits: what is held is all there will be."""
        for id in list(self.held):
            if worker is None or self._workers.get(id, worker) == worker:
                self.held[id][5] = True
        for id in list(self.asked):
            if worker is None or self._workers.get(id) == worker:
                self._end(id)
        self._forget()
        self._dirty = True

    def _end(self, id):
        """Nobody waits for the gateway's word on a ticket any more. If it may have opened it, it must hear that the
        buyer can have it back."""
        if id in self._asking:
            self._ended.add(id)
        else:
            del self.asked[id]

    def _forget(self):
        """Keep no more about whose ticket was whose than there are tickets."""
        for id in list(self._workers):
            if id not in self.asked and id not in self.held:
                del self._workers[id]

    # -- what the gateway says ---------------------------------------------------

    def to_open(self):
        """Up to BATCH tickets to ask about: (ids, tickets)."""
        ids = sorted(self.asked)[:BATCH]
        self._asking.update(ids)
        tickets = []
        for id in ids:
            key, anchor, output, units = self.asked[id]
            tickets.append({"key": key, "anchor": anchor, "output": output, "units": units})
        return ids, tickets

    def to_redeem(self):
        """Up to BATCH readings that the gateway has not confirmed, of one gateway: (its key, items)."""
        gateway, items = None, []
        self._told = set()
        for book in (self.held, self.closing):
            for id in sorted(book):
                owner, _, index, preimage, redeemed, final = book[id]
                due = index > redeemed or book is self.closing
                if not due or (gateway is not None and owner != gateway) or len(items) >= BATCH:
                    continue
                gateway = owner
                item = {"id": id, "index": index, "preimage": preimage}
                if final:  # the buyer may have the rest back at once
                    item["final"] = True
                    self._told.add(id)
                items.append(item)
        return gateway, items

    def opened(self, results, gateway):
        """Results of POST /v1/open by `gateway` (its key, hex). Returns the messages for the relay."""
        answers = []
        for result in results:
            id = result["id"]
            ticket = self.asked.pop(id, None)
            ended = id in self._ended
            self._asking.discard(id)
            self._ended.discard(id)
            if ticket is None:
                continue
            if result["ok"]:
                _, anchor, _, units = ticket
                # One string for all tickets of a gateway.
                gateway = self._names.setdefault(gateway, gateway)
                self.held.setdefault(id, [gateway, units, 0, anchor, 0, ended])
                self._dirty = True
                answers.append({"t": "opened", "id": id, "ok": True, "units": units})
            else:
                code = self._refuse(result)
                answers.append({"t": "opened", "id": id, "ok": False, "code": code})
        return answers

    def redeemed(self, results, gateway):
        """Results of POST /v1/redeem by `gateway`. Returns the messages for the relay."""
        answers = []
        for result in results:
            id = result["id"]
            self.closing.pop(id, None)
            entry = self.held.get(id)
            if entry is None:
                continue
            self._dirty = True
            if result["ok"]:
                self.redeemed_units += max(0, result["index"] - entry[4])
                self._keep_receipt(gateway, result.get("receipt"))
                entry[4] = max(entry[4], result["index"])
                answers.append({"t": "redeemed", "id": id, "index": result["index"]})
                if entry[5] and entry[4] >= entry[2]:
                    self._drop(id)
            else:
                code = self._refuse(result)
                answers.append({"t": "redeemed", "id": id, "ok": False, "code": code, "index": entry[2]})
                if code in FINAL_CODES:
                    del self.held[id]
        return answers

    def _keep_receipt(self, gateway, receipt):
        """Keep the receipt that names the most units: it proves what the gateway owes (docs/architecture.md)."""
        if receipt and receipts.units(receipt) >= receipts.units(self.receipts.get(gateway)):
            self.receipts[gateway] = receipt

    def promised(self, gateway, kept):
        """Keep receipts for the chain that were checked; they are written with the tickets."""
        for receipt in kept:
            promises.add(self.promises.setdefault(gateway, []), receipt)
            self._dirty = True

    def _refuse(self, result):
        code = str(result.get("code") or "refused")
        self.refused[code] = self.refused.get(code, 0) + 1
        return code

    def finish(self):
        """Forget entries that are final and wholly redeemed; returns messages for the relay, which may ask again."""
        done = [id for id in self.held if self.held[id][5] and self.held[id][4] >= self.held[id][2]]
        answers = [{"t": "redeemed", "id": id, "index": self.held[id][4]} for id in done]
        for id in done:
            self._drop(id)
            self._dirty = True
        if len(self._workers) > ASKED_MOST + HELD_MOST:
            self._forget()
        return answers

    def _drop(self, id):
        """Forget a ticket that is final and wholly redeemed, unless the gateway must still hear that it is final."""
        entry = self.held.pop(id)
        if id not in self._told and entry[3] and entry[2] < entry[1] and len(self.closing) < CLOSING_MOST:
            self.closing[id] = entry

    # -- on disk -------------------------------------------------------------------

    def unredeemed(self):
        """Units held and not confirmed."""
        return sum([max(0, entry[2] - entry[4]) for entry in self.held.values()])

    def save(self, ending=False):
        """Write to RAM what changed; to flash when it is due or the agent ends. Raises OSError."""
        if self._dirty:
            files.write_atomic(self.run_file, self._text(), 0o600, False)
            self._dirty = False
            self._flash_dirty = True
        due = clock.diff(clock.ms(), self._flash_at) >= FLASH_MS
        worth = self.unredeemed() or self.promises or files.read(self.state_file) is not None
        if self._flash_dirty and (due or ending) and worth:
            files.write_atomic(self.state_file, self._text())
            self._flash_dirty = False
            self._flash_at = clock.ms()

    def _text(self):
        """The book as JSON, in parts."""
        yield b'{"receipts": ' + json.dumps(self.receipts).encode()
        yield b', "promises": ' + json.dumps(self.promises).encode() + b', "tickets": {'
        comma = b""
        for id in self.held:
            yield comma + json.dumps(id).encode() + b": " + json.dumps(self.held[id]).encode()
            comma = b", "
        yield b"}}"
