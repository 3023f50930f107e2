"""One gateway process: its parts, started and stopped together."""

from __future__ import annotations

from dataclasses import dataclass

from bwgateway.chain.anvil import Anvil
from bwgateway.chain.contracts import Contracts
from bwgateway.database import Database
from bwgateway.directory import Listing
from bwgateway.keys import Keys
from bwgateway.limits import Limits
from bwgateway.meter import Meter
from bwgateway.mint import MintKeys
from bwgateway.settings import Settings
from bwgateway.settlement import Settlement
from bwgateway.watch import Watch


@dataclass
class Gateway:
    """What the HTTP handlers work with."""

    settings: Settings
    keys: Keys
    db: Database
    mint: MintKeys
    meter: Meter
    chain: Contracts
    settlement: Settlement
    listing: Listing
    watch: Watch
    limits: Limits
    spend_domain: bytes
    node: Anvil | None


def mint_keys(settings: Settings, keys: Keys, generation: int = 0) -> MintKeys:
    """The mint as configured."""
    m = settings.mint
    return MintKeys(keys.mint_seed, settings.regions, m.key_seconds, m.open_seconds, m.refund_seconds, generation)
