"""Flow offloading: packets that pass the CPU by. What is forwarded in hardware is in no counter of the kernel's device.

Software offloading (nft flowtables without the `offload` flag) still hands each packet to the device, so its bytes are
counted; only hardware offloading hides the household.
"""

import os

from ..platform import files

NONE, SOFTWARE, HARDWARE = "none", "software", "hardware"
WORDS = {
    NONE: "",
    SOFTWARE: "software flow offloading is on; its bytes are counted",
    HARDWARE: "hardware flow offloading is on: the household cannot be seen, so only a small fixed rate is shared; "
    "turn it off (firewall option flow_offloading_hw) to share all that is idle",
}


def detect(conntrack="/proc/net/nf_conntrack", tables=None):
    """What this router does. Runs `nft` once, so not for every tick. `tables`: the text of its answer, for tests."""
    if tables is None:
        tables = _flowtables()
    return judge(tables, _mentions(conntrack, b"[HW_OFFLOAD]"), _mentions(conntrack, b"[OFFLOAD]"))


def judge(tables, hardware, software):
    """From `nft list flowtables` and whether conntrack names flows of either kind."""
    if hardware:
        return HARDWARE
    for block in tables.split("flowtable ")[1:]:
        if "offload" in block[block.find("{") :]:
            return HARDWARE
    return SOFTWARE if software or "flowtable " in tables else NONE


def _flowtables():
    out = "/tmp/.bwrouter-flowtables"
    os.system("nft list flowtables >%s 2>/dev/null" % out)
    text = files.read(out)
    files.remove(out)
    return text.decode() if text else ""


def _mentions(path, word):
    """Whether a file names it; read in pieces, for conntrack's table may be larger than the heap."""
    try:
        with open(path, "rb") as f:
            last = b""
            while True:
                part = f.read(4096)
                if not part:
                    return False
                if word in last + part:
                    return True
                last = part[-16:]
    except OSError:
        return False
