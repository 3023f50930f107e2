"""Functions that keep their state: generators instead of calls where a relay spends its time.

MicroPython keeps the state of a function on the C stack only up to eleven words of variables and temporaries. A larger
one is taken from the heap at each call and given back at its end, and to find so many blocks in a row behind a few
hundred kB in use takes longer than to forward a cell. A generator's state is taken once. It also finds what it needs
from its object once, before its loop, and not in each call.

An exception ends a generator for good: who catches one makes it anew.
"""


def step(generator):
    """A function without arguments: runs `generator` up to its next yield, and returns what that gives."""
    next(generator)
    return generator.__next__


def send(generator):
    """A function of one argument: the yield where `generator` waits gives it, the next yield's value is returned."""
    next(generator)
    return generator.send
