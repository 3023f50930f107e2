"""The harness that stands for pytest.raises on both runtimes."""

from harness import raises


def fail(error):
    raise error


def test_raises_returns_the_error():
    error = ValueError("no")
    assert raises(ValueError, fail, error) is error


def test_raises_refuses_silence_and_other_errors():
    caught = raises(AssertionError, raises, ValueError, int, "1")
    assert "returned 1" in str(caught)
    raises(KeyError, raises, ValueError, fail, KeyError("k"))
