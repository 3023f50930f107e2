"""The agent: the control process of a router. It holds the keys, speaks with the gateways, and steers the relay."""


def main(config_path):
    """Run the agent with the settings of `config_path` until SIGTERM. Raises ConfigError for a wrong setting."""
    from ..platform import config, memory

    memory.frugal()
    from .agent import Agent

    agent = Agent(config.load(config_path))
    memory.bounded()
    agent.run()
