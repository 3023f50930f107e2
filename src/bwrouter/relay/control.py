"""The relay's line to the agent: JSON datagrams over unix sockets (docs/architecture.md)."""

import json

from ..platform import config, net


class Control:
    """`handle` maps a message type to a function of (message, fd)."""

    def __init__(self, run_dir, handle, worker=0):
        self.peer = run_dir + "/agent.sock"
        self.worker = worker
        self.socket = net.UnixDatagram(config.relay_socket(run_dir, worker))
        self.fd = self.socket.fd
        self.handle = handle

    def tell(self, message):
        """Send one message. False when the agent is away: what matters is said again later."""
        if self.worker:
            message["worker"] = self.worker
        return self.socket.send(self.peer, json.dumps(message).encode())

    def read(self):
        """Handle all waiting messages. Malformed ones are ignored: only root can write here."""
        while True:
            text, fd = self.socket.recv()
            if text is None:
                return
            try:
                message = json.loads(text)
                f = self.handle.get(message["t"])
            except (ValueError, KeyError, TypeError):
                continue
            if f is not None:
                f(message, fd)

    def close(self):
        self.socket.close()
