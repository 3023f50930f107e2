"""An RPC endpoint that lies while a file tells it how: `python -m tests.soak.liar --host H --port P --to URL --how FILE`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from tests.gateway.liar import Liar

LIES = ("value", "node", "old", "silent", "garbage")


class Endpoint(Liar):
    """Honest while the file is empty or absent."""

    def __init__(self, host: str, port: int, target: str, how: Path) -> None:
        super().__init__(target, (host, port))
        self.how = how
        self.before: dict[str, Any] = {}
        self.lie = self.twist

    def twist(self, method: str, params: list[Any], result: Any) -> Any:
        """One of LIES, on what a gateway believes only with proof."""
        how = ""
        with contextlib.suppress(OSError):
            how = self.how.read_text().strip()
        self.delay = 8.0 if how == "silent" else 0.0
        newest = method == "eth_getBlockByNumber" and params and params[0] == "latest"
        if how == "old" and newest:
            return self.before.get("head", result)
        if newest:
            self.before.setdefault("head", result)
        if how == "garbage" and method == "eth_getProof":
            return {"accountProof": "x"}
        if method == "eth_getProof" and isinstance(result, dict):
            slots = result.get("storageProof") or []
            if how == "value" and slots:
                slots[0]["value"] = hex(10**24)
            if how == "node" and result.get("accountProof"):
                node = result["accountProof"][0]
                result["accountProof"][0] = node[:-2] + ("00" if node[-2:] != "00" else "01")
        return result


def main() -> int:
    cli = argparse.ArgumentParser(prog="tests.soak.liar")
    cli.add_argument("--host", required=True)
    cli.add_argument("--port", type=int, required=True)
    cli.add_argument("--to", required=True)
    cli.add_argument("--how", type=Path, required=True)
    args = cli.parse_args()
    Endpoint(args.host, args.port, args.to, args.how).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
