"""Run one test file's functions and report each. Works on MicroPython and CPython.

    micropython -X heapsize=8m tests/unit/run_mp.py FILE NAME...

For every NAME, in the order given, prints what the test printed, then one line `\\x1f ok NAME MILLISECONDS` or
`\\x1f failed NAME MILLISECONDS`, a failure's traceback before it. Exits 0 when all passed, 1 when one failed, 2 when
FILE has no such function or does not load.
"""

import gc
import sys
import time


def show(error):
    if hasattr(sys, "print_exception"):
        sys.print_exception(error)
    else:
        import traceback

        traceback.print_exception(error, file=sys.stdout)


def now_ms():
    return time.time_ns() // 1000000


def load(path):
    folder, _, name = path.rpartition("/")
    sys.path.insert(0, folder or ".")
    return __import__(name[:-3])


def main(path, names):
    try:
        module = load(path)
    except Exception as error:
        show(error)
        return 2
    status = 0
    for name in names:
        test = getattr(module, name, None)
        if test is None:
            print("no function", name, "in", path)
            return 2
        gc.collect()
        started = now_ms()
        try:
            test()
            verdict = "ok"
        except Exception as error:
            show(error)
            verdict = "failed"
            status = 1
        print("\x1f", verdict, name, now_ms() - started)
    return status


sys.exit(main(sys.argv[1], sys.argv[2:]))
