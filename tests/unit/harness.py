"""What unit tests share on both runtimes. Keep it to what MicroPython has."""


def raises(error, function, *args):
    """Call `function(*args)`; return the `error` it raises, or fail if it returns or raises another type."""
    try:
        result = function(*args)
    except error as caught:
        return caught
    raise AssertionError("%s not raised; returned %r" % (error, result))
