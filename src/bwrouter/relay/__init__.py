"""The relay: the data process of a router. It has no wallet, no capabilities, and one UDP socket."""


def main(config_path):
    """Run a relay with the settings of `config_path` until the agent says shutdown or the process is ended."""
    from ..platform import config, memory

    memory.frugal()
    settings = config.load(config_path)
    workers = config.workers(settings)
    if workers == 1:
        run(settings, 0, 1)
    else:
        from .workers import Workers

        Workers(settings, workers, run).run()


def run(settings, worker, workers):
    """One relay process, to its end."""
    from .. import __version__
    from .relay import Relay

    Relay(settings, __version__, worker, workers).run()
