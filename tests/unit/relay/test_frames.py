"""What runs in every turn keeps its state on the C stack or in a generator: MicroPython takes larger states from the
heap at each call, which was two thirds of a relay's time (platform/frames.py). CPython has no such limit."""

import gc

from bwrouter.platform import ffi, mmsg, net
from bwrouter.relay import exit, loop, pacing, queue, reflex, relay
from bwrouter.wire import replay

MICROPYTHON = hasattr(gc, "mem_alloc")
WORDS = 11  # VM_MAX_STATE_ON_STACK
EXCEPTION_WORDS = 3  # of a `try`
HOT = (
    (mmsg.Sender, ("put", "begin", "reset", "_send")),
    (loop.Loop, ("flush", "sent", "_room", "slot", "own_address", "seal_own", "_seal")),
    (pacing.Pacer, ("refill", "_line", "spend", "through", "_count", "wait_ms")),
    (queue.Queue, ("at", "push", "pop", "_drop_head")),
    (queue.Ring, ("push",)),
    (reflex.Reflex, ("look", "_read", "pending")),
    (relay.Relay, ("_serve", "_rest", "tick", "second_ms", "moved")),
    (replay.Windows, ("fresh", "take")),
    (exit.Exit, ("send", "find")),
    (net.Poller, ("wait", "ready")),
)


def state_words(function):
    """Words of state of a function in bytecode (MicroPython's py/bc.h: MP_BC_PRELUDE_SIG)."""
    where = id(function)
    if where < 0:  # MicroPython's id() of an object above 2^30 has lost its highest bit but the sign on 32 bits (py/obj.c)
        where += 1 << 31
    code = ffi.words(where, 4)[3]
    b = ffi.u8(code, 8)
    state = b[0] >> 3 & 15
    exceptions = b[0] >> 2 & 1
    i = 0
    while b[i] & 0x80:
        i += 1
        state |= (b[i] & 0x30) << 2 * (i - 1)
        exceptions |= (b[i] & 2) << i - 1
    return state + 1 + EXCEPTION_WORDS * exceptions


def large(a, b, c, d, e, f, g):
    """A function that must be found out."""
    h = i = j = k = a
    return (b, c, d, e, f, g, h, i, j, k)


def test_no_state_on_the_heap():
    if not MICROPYTHON:
        return
    assert state_words(large) > WORDS
    for owner, names in HOT:
        for name in names:
            words = state_words(owner.__dict__[name])
            assert words <= WORDS, "%s.%s has %d words of state" % (owner.__name__, name, words)
    assert state_words(pacing.earned) <= WORDS
