"""The relay: the data process of a router. It has no wallet, no capabilities, and one UDP socket."""


def main(config_path):
    """Run a relay with the settings of `config_path` until the agent says shutdown or the process is ended."""
    from .. import __version__
    from ..platform import config
    from .relay import Relay

    Relay(config.load(config_path), __version__).run()
