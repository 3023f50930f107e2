"""The client's parts that need no network: settings, vault, budget, paths, guards, health, resolver, switch rules."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections import Counter, deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from bwclient import killswitch, settings, vault
from bwclient.budget import Budget
from bwclient.directory import DirectoryError, fetch
from bwclient.guards import Guards
from bwclient.health import PATIENCE_BESIDE, PATIENCE_LEAST, PATIENCE_MOST, SILENCE_LEAST, SLOW_MOST, Health
from bwclient.meter import HopMeter, NoTicket
from bwclient.path import INTERACTIVE, RELAXED, STRICT, Known, PathError, Wish, choose, reachable, weight
from bwclient.purse import Purse, PurseError, split
from bwclient.reach import OWN
from bwclient.relays import Relays
from bwclient.resolver import Resolver
from bwrouter.platform import net
from bwrouter.wire.descriptor import ANCHORED, EXIT, Descriptor

# -- settings ------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "client.json"
    path.write_text(json.dumps({"gateway": {"url": "http://g:1", "key": "0" * 64}, "rpc_url": "http://g:2"}))
    return path


def test_settings_come_from_file_environment_and_options(file, monkeypatch):
    monkeypatch.setenv("BW_HOPS", "5")
    monkeypatch.setenv("BW_GATEWAY__URL", "http://other:3")
    monkeypatch.setenv("BW_DNS", '["198.18.41.2"]')
    monkeypatch.setenv("BW_STORM", "1")
    s = settings.load(str(file), {"priority": 4, "profile": None})
    assert (s.hops, s.gateway.url, s.gateway.key, s.dns) == (5, "http://other:3", "0" * 64, ["198.18.41.2"])
    assert s.priority == 4 and s.profile == "bulk"
    assert s.state_dir == str(file.parent) and s.wallet_key_file == str(file.parent / "wallet.key")


@pytest.mark.parametrize(
    ("name", "value"),
    [("hops", 6), ("hops", 0), ("priority", 3), ("padding", "much"), ("dns", ["name"]), ("exclude", ["10.0.0.0/33"]),
     ("tun", "a b"), ("spend_limit_hour_units", 1), ("colour", "red"), ("diversity", "none"), ("lan", "x;y")],
)  # fmt: skip
def test_a_wrong_setting_is_named(file, name, value):
    with pytest.raises(settings.SettingsError, match=f"setting {name}"):
        settings.load(str(file), {name: value})


def test_a_missing_file_names_the_mend(tmp_path):
    with pytest.raises(settings.SettingsError, match="BW_CONFIG"):
        settings.load(str(tmp_path / "none.json"))


# -- vault -----------------------------------------------------------------------------------


def test_vault_opens_with_its_passphrase_alone():
    key = os.urandom(32)
    text = vault.seal(key, "correct horse", ops=1, memory=8 << 20)
    assert key.hex() not in text and vault.is_vault(text) and not vault.is_vault(key.hex())
    assert vault.unseal(text, "correct horse") == key
    with pytest.raises(vault.VaultError, match="passphrase is wrong"):
        vault.unseal(text, "correct horsf")
    changed = json.loads(text)
    for name in ("sealed", "salt", "nonce"):
        bad = changed | {name: ("00" if changed[name][:2] != "00" else "11") + changed[name][2:]}
        with pytest.raises(vault.VaultError):
            vault.unseal(json.dumps(bad), "correct horse")
    with pytest.raises(vault.VaultError, match="another kind"):
        vault.unseal(json.dumps(changed | {"memory": 1 << 40}), "correct horse")
    with pytest.raises(vault.VaultError, match="empty passphrase"):
        vault.seal(key, "")


def test_key_file_bare_and_encrypted(tmp_path, monkeypatch):
    key, path = os.urandom(32), tmp_path / "wallet.key"
    path.write_text("0x" + key.hex() + "\n")
    assert vault.load_key(str(path)) == key
    monkeypatch.setenv("BW_PASSPHRASE", "x y z")
    vault.save_key(str(path), key, "x y z")
    assert vault.load_key(str(path)) == key and path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("BW_PASSPHRASE", "x y")
    with pytest.raises(vault.VaultError, match="wrong"):
        vault.load_key(str(path))
    path.write_text("abcd")
    with pytest.raises(vault.VaultError, match="2 bytes"):
        vault.load_key(str(path))
    with pytest.raises(vault.VaultError, match="bw wallet new"):
        vault.load_key(str(tmp_path / "other"))


# -- budget ----------------------------------------------------------------------------------


def test_spend_limits_hold_over_restarts_and_give_way(tmp_path):
    file = tmp_path / "spent.json"
    now = 1_800_000_000.0
    Budget(file, 100, 150).note(80, now)
    b = Budget(file, 100, 150)
    assert b.left(now + 1) == 20 and b.left(now + 3601) == 70
    b.note(70, now + 3601)
    assert Budget(file, 100, 150).left(now + 3602) == 0
    assert Budget(file, 100, 150).left(now + 3601 + 3601) == 0, "the day's limit"
    assert Budget(file, 100, 150).left(now + 86_401) == 80
    b.note(-70, now + 3603)
    assert Budget(file, 100, 150).left(now + 3604) == 70


def test_the_limit_that_holds_is_named(tmp_path):
    b = Budget(tmp_path / "s", 100, 1000)
    b.note(100)
    assert "100 units per hour" in b.why() and "spend_limit_hour_units" in b.why() and "60 min" in b.why()


def test_stock_has_small_tickets_for_the_starts_of_circuits():
    assert split(6144, 0) == (5, 16) and split(6144, 12) == (6, 0) and split(640, 0) == (0, 10)
    for units in range(64, 9000, 64):
        big, few = split(units, 0)
        assert big * 1024 + few * 64 == units
    assert split(24_576, 0, 96) == (18, 96) and split(24_576, 90, 96) == (23, 16) and split(4096, 0, 96) == (3, 16)


def test_an_empty_stock_is_not_called_a_spend_limit(tmp_path):
    purse = Purse.__new__(Purse)
    purse.settings = SimpleNamespace(spend_limit_units=1000, stock_units=1000)
    purse.budget, purse.bought_units, purse._error = Budget(tmp_path / "s", 1000, 1000), 0, ""
    purse._lock, purse._stock = threading.Lock(), {1: deque()}
    with pytest.raises(PurseError, match="no ticket is left until more are bought"):
        purse.take_small(1)
    purse.bought_units = 1000
    with pytest.raises(PurseError, match="spend limit of 1000 units per run is used up"):
        purse.take_small(1)


# -- paying ------------------------------------------------------------------------------------


class Plain:
    """Tickets of one size; `open` is what a relay's CREDIT says of them."""

    key_id, output, units, top = bytes(16), bytes(32), 1024, bytes(32)

    def take(self, region: int) -> Plain:
        return self


def run_start(rtt: float, most: float) -> tuple[float, int]:
    """A TCP start over a hop at `rtt` seconds, doubling in each up to `most` bytes a second: (the greatest lack in bytes
    that the hop saw, units paid ahead in the end)."""
    meter, now, lack, sent = HopMeter(1, Plain()), 100.0, 0.0, 0.0
    meter.rtt = rtt
    rate, history, pays = 14_000 / rtt, [], []
    while now < 104:
        history.append((now, sent))
        counted = max((s for at, s in history if at <= now - rtt / 2), default=0)
        meter.used_bytes = int(counted)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", lambda now=now: now)
            meter.due()
        pays.append((now + rtt / 2, meter.paid_units))
        paid = max((units for at, units in pays if at <= now), default=0)
        lack = max(lack, sent - (paid + 2) * 65536)
        sent += rate * 0.01
        rate = min(most, rate * 2 ** (0.01 / rtt))
        now += 0.01
    return lack, meter.paid_units - int(sent // 65536)


@pytest.mark.parametrize(("rtt", "mbps"), [(0.02, 10), (0.02, 300), (0.08, 40), (0.08, 300), (0.18, 40), (0.3, 100)])
def test_a_start_of_tcp_is_paid_ahead_at_every_hop(rtt, mbps):
    lack, ahead = run_start(rtt, mbps * 125_000)
    assert lack <= 0, f"{lack:.0f} bytes were not paid for when they came"
    assert ahead <= 16 + 2 * mbps * 125_000 * (0.25 + 4 * rtt) / 65536, "and little is paid for what has not come"


def test_units_at_hand_are_paid_although_no_other_ticket_can_be_had(monkeypatch):
    class Last(Plain):
        units, given = 64, 0

        def take(self, region: int) -> Plain:
            self.given += 1
            if self.given > 1:
                raise NoTicket("the limit")
            return self

    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    meter = HopMeter(1, Last())
    for unit in range(1, 200):
        now += 0.02
        meter.used_bytes = unit * 65536 // 2
        meter.due()
        assert meter.starving == (meter.paid_units == 64), "only then nothing can be sent any more"
    assert meter.paid_units == 64 and meter.lack == "the limit"
    meter.source = Plain()
    now += 1.0
    meter.due()
    assert not meter.starving and meter.paid_units > 64, "a purchase that succeeds in the end is taken up"


# -- paths -------------------------------------------------------------------------------------


def relay(n: int, v4: str = "", v6: str = "", region: int = 1, exit: bool = False, rate: int = 10_000) -> Descriptor:
    return Descriptor(
        n.to_bytes(32, "big"), b"", b"", net.ip_bytes(v4) if v4 else bytes(4), 1000 if v4 else 0,
        net.ip_bytes(v6) if v6 else bytes(16), 1000 if v6 else 0, region, EXIT if exit else 0, rate,
    )  # fmt: skip


def apart(count: int, first: int = 1, **more) -> list[Descriptor]:
    return [relay(first + i, f"20.{first + i}.0.1", **more) for i in range(count)]


def test_no_two_hops_of_one_network_or_owner():
    near = [relay(50 + i, f"30.5.{i}.1") for i in range(6)] + [relay(60 + i, "", f"2a00:1:{i}::1") for i in range(6)]
    relays = near + apart(4) + apart(3, 100, exit=True)
    facts = {d.relay: Known(owner="0xaa") for d in relays[12:14]}
    wish = Wish(hops=5, diversity=STRICT)
    for _ in range(200):
        p = choose(relays, 5, wish=wish, facts=facts)
        assert p[-1].exit and not any(d.exit for d in p[:-1])
        assert len({d.v4[:2] for d in p if d.port4}) == sum(bool(d.port4) for d in p)
        assert sum(bool(d.port6) for d in p) <= 1
        assert sum(d.relay in facts for d in p) <= 1
    with pytest.raises(PathError, match="separate networks and hands; ask for fewer --hops, or set diversity"):
        choose(near[:6] + apart(1, 100, exit=True), 3, wish=Wish(hops=3, diversity=STRICT))
    assert len(choose(near[:6] + apart(1, 100, exit=True), 3, wish=Wish(hops=3, diversity=RELAXED))) == 3


def anchored(d: Descriptor) -> Descriptor:
    d.flags |= ANCHORED
    return d


def test_a_relay_behind_an_anchor_comes_after_a_public_one_only():
    public, hidden = apart(5), [anchored(d) for d in apart(5, 20)]
    exits = apart(1, 100, exit=True) + [anchored(d) for d in apart(2, 110, exit=True)]
    places: Counter[int] = Counter()
    for hops in (2, 3, 4):
        for _ in range(200):
            p = choose([*public, *hidden, *exits], hops, wish=Wish(hops))
            assert reachable(p) and not p[0].anchored
            assert not any(a.anchored and b.anchored for a, b in itertools.pairwise(p))
            places.update(i - hops for i, d in enumerate(p) if d.anchored)
    assert places[-1] and places[-2], "at the end and before it"
    assert all(not choose([*public, *exits], 1, wish=Wish(1))[0].anchored for _ in range(50))
    with pytest.raises(PathError):
        choose([*hidden, *exits], 3, wish=Wish(3))
    with pytest.raises(PathError, match="no exit"):
        choose([*public, *exits[1:]], 1, wish=Wish(1))


def test_an_anchor_is_on_no_path_with_its_router():
    """It does not extend to its own address, which its router's descriptor shows."""
    anchor, other, exit = relay(1, "20.1.0.1"), relay(2, "20.2.0.1"), anchored(relay(3, "20.1.0.1", exit=True))
    for diversity in (STRICT, RELAXED):
        for _ in range(50):
            assert choose([anchor, other, exit], 2, wish=Wish(2, diversity=diversity))[0] is other
        with pytest.raises(PathError):
            choose([anchor, exit], 2, wish=Wish(2, diversity=diversity))
    assert not reachable([anchor, exit]) and reachable([other, exit]) and not reachable([exit]) and reachable([anchor])


def test_no_guard_is_behind_an_anchor(file, tmp_path):
    s = settings.load(str(file), {"state_dir": str(tmp_path), "region": 1, "hops": 2, "diversity": "relaxed"})
    relays = Relays(s)
    relays.listed = [*apart(2), *(anchored(d) for d in apart(6, 20)), *apart(1, 100, exit=True)]
    for _ in range(20):
        assert not relays.choose()[0].anchored
    assert not {d.relay for d in relays.listed if d.anchored} & {bytes.fromhex(g) for g in relays.guards._entries}


def test_hops_are_one_to_five_and_the_exit_region_holds():
    relays = apart(8) + apart(2, 100, exit=True) + apart(2, 110, exit=True, region=2)
    for hops in range(1, 6):
        p = choose(relays, hops, wish=Wish(hops, (1, 2), exit_region=2))
        assert len(p) == hops and p[-1].region == 2
    with pytest.raises(PathError, match="no exit .* in region 3.*--exit-region"):
        choose(relays, 3, wish=Wish(3, (1, 2, 3), exit_region=3))


def test_other_regions_are_preferred_when_tickets_are_at_hand():
    relays = apart(5) + apart(5, 20, region=2) + apart(1, 100, exit=True)
    middle = Counter(choose(relays, 2, wish=Wish(2, (1, 2)))[0].region for _ in range(600))
    assert middle[2] > 2.5 * middle[1]
    assert all(choose(relays, 2, wish=Wish(2, (1,)))[0].region == 1 for _ in range(50))


def test_weights_follow_what_was_measured():
    fast, slow = relay(1, "1.1.0.1", rate=100_000), relay(2, "2.2.0.1", rate=10_000)
    assert weight(fast, Known(), "bulk") == 10 * weight(slow, Known(), "bulk")
    lied = Known(audited_kbps=10_000)
    assert weight(fast, lied, "bulk") < weight(fast, Known(), "bulk"), "the audit counts, not the claim"
    assert weight(slow, Known(rtt_ms=5), INTERACTIVE) > 4 * weight(slow, Known(rtt_ms=120), INTERACTIVE)
    assert weight(slow, Known(failures=1), "bulk") == weight(slow, Known(), "bulk") / 4
    assert weight(slow, Known(score=5000), "bulk") == weight(slow, Known(), "bulk") / 2
    assert weight(slow, Known(stake_bwt=100), "bulk", 100) == 2 * weight(slow, Known(), "bulk", 100)
    relays = [relay(1, "20.1.0.1", rate=90_000), relay(2, "20.2.0.1", rate=10_000), *apart(1, 100, exit=True)]
    drawn = Counter(choose(relays, 2, wish=Wish(2))[0].relay[-1] for _ in range(2000))
    assert 0.86 < drawn[1] / 2000 < 0.94


def test_a_spare_path_keeps_apart_and_the_first_hop_is_a_guard():
    relays = apart(8) + apart(1, 100, exit=True)
    guards = [d.relay for d in relays[:3]]
    for _ in range(100):
        p = choose(relays, 3, wish=Wish(3), guards=guards)
        assert p[0].relay in guards and p[1].relay not in guards
        spare = choose(relays, 3, wish=Wish(3), guards=guards, apart=frozenset(d.relay for d in p[:-1]))
        assert not {d.relay for d in spare[:-1]} & {d.relay for d in p[:-1]} and spare[0].relay in guards


def known(file: Path, inner: int) -> Relays:
    """`inner` relays and an exit, all listed."""
    made = Relays(settings.load(str(file), {"diversity": "relaxed"}))
    made.listed = apart(inner) + apart(1, 100, exit=True)
    return made


def test_a_spare_shares_no_hop_though_all_others_failed_a_while_ago(file, monkeypatch):
    relays, start = known(file, 8), time.monotonic()
    exit, active = relays.listed[-1].relay, frozenset(d.relay for d in relays.listed[6:8])
    for i, d in enumerate(relays.listed[:6]):
        monkeypatch.setattr(time, "monotonic", lambda i=i: start + 3 * i)
        relays.blame(d.relay)
    monkeypatch.setattr(time, "monotonic", lambda: start + 18)
    for _ in range(30):
        inner = {d.relay for d in relays.choose(exit, active)[:-1]}
        assert not inner & active
        assert inner == {d.relay for d in relays.listed[:2]}, "those that failed longest ago"


def test_a_relay_that_died_just_now_is_no_spare(file):
    relays = known(file, 4)
    exit, active = relays.listed[-1].relay, frozenset(d.relay for d in relays.listed[2:4])
    dead, behind = relays.listed[0].relay, relays.listed[1].relay
    relays.blame(dead)
    for _ in range(30):
        inner = {d.relay for d in relays.choose(exit, active)[:-1]}
        assert dead not in inner and behind in inner and inner & active
    relays.suspect(behind)
    assert {d.relay for d in relays.choose(exit, active)[:-1]} == active, "no other is left"


def test_guards_stay_until_they_are_old_or_gone(tmp_path, monkeypatch):
    file, relays = tmp_path / "guards.json", apart(30) + apart(2, 100, exit=True)
    first = Guards(file).ids(relays, lambda d: 1.0)
    assert len(first) == 3 and not any(d.exit for d in relays if d.relay in first)
    assert all(Guards(file).ids(relays, lambda d: 1.0) == first for _ in range(20))
    fewer = [d for d in relays if d.relay != first[0]]
    later = Guards(file).ids(fewer, lambda d: 1.0)
    assert first[0] not in later and later[:2] == first[1:] and len(later) == 3
    assert Guards(file).ids(relays, lambda d: 1.0)[0] == first[0], "it comes back when it is listed again"
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + 121 * 86_400)
    assert not set(Guards(file).ids(relays, lambda d: 1.0)[:3]) >= set(first)


# -- health ---------------------------------------------------------------------------------------


def test_silence_while_packets_move_is_death_after_two_spans():
    h = Health(3, 0.0)
    for _ in range(8):
        h.pong(2, h.ping(2, 1.0), 1.02)
    now, heard = 10.0, 10.0
    asked = dead = 0.0
    while not dead and now < 12:
        ask, gone = h.check(now, heard, 10.0, 5.0)
        asked = asked or (now if ask else 0.0)
        dead = now if gone else 0.0
        now += 0.005
    assert SILENCE_LEAST - 0.01 < asked - 10.0 < SILENCE_LEAST + 0.02
    assert PATIENCE_LEAST <= dead - asked < PATIENCE_LEAST + 0.05
    assert h.blame(now) == 0


def test_death_is_seen_sooner_while_the_exit_answers_over_another_circuit():
    def dead_after(beside: float) -> float:
        h = Health(3, 0.0)
        for _ in range(8):
            h.pong(2, h.ping(2, 1.0), 1.02)
        assert h.check(10.1, 10.0, 10.0, 5.0) == (True, False)
        now = 10.1
        while not h.check(now, 10.0, 10.0, 5.0, beside)[1]:
            now += 0.005
        return now - 10.1

    assert PATIENCE_LEAST <= dead_after(0.0) < PATIENCE_LEAST + 0.01
    assert dead_after(10.09) == dead_after(0.0)  # what came before the question says nothing
    assert PATIENCE_BESIDE <= dead_after(10.12) < PATIENCE_BESIDE + 0.01


def test_slack_makes_it_as_many_times_as_patient():
    h = Health(3, 0.0)
    for _ in range(8):
        h.pong(2, h.ping(2, 1.0), 1.02)
    assert h.check(10.1, 10.0, 10.0, 5.0, slack=4) == (True, False)
    now, asked = 10.1, 0
    while True:
        ask, dead = h.check(now, 10.0, 10.0, 5.0, slack=4)
        if dead:
            break
        if ask:
            h.ping(2, now)
            asked += 1
        now += 0.005
    assert 4 * PATIENCE_LEAST <= now - 10.1 < 4 * PATIENCE_LEAST + 0.01
    assert asked <= 4, "questions are fewer, too"
    slow = Health(3, 0.0)
    slow.pong(2, slow.ping(2, 1.0), 2.0)
    assert slow.patience == PATIENCE_MOST and slow.check(20.0, 10.0, 20.0, 5.0, slack=8) == (True, False)
    assert not slow.check(20.0 + SLOW_MOST - 0.01, 10.0, 20.0, 5.0, slack=8)[1]
    assert slow.check(20.0 + SLOW_MOST + 0.01, 10.0, 20.0, 5.0, slack=8)[1], "8 times 0.8 s would be too long"


def test_the_first_silent_hop_is_blamed_and_an_answer_ends_the_doubt():
    h = Health(3, 0.0)
    assert h.check(10.1, 10.0, 10.0, 5.0) == (True, False)
    h.pong(0, h.ping(0, 10.1), 10.12)
    assert h.blame(10.3) == 1
    assert h.check(10.2, 10.15, 10.0, 5.0)[1] is False and h.asked_since == 0.0
    h.pong(1, b"unasked!", 10.2)
    assert h.rtt[1].smooth == 0.0


def test_an_idle_circuit_is_asked_seldom():
    h, asked, heard = Health(3, 0.0), 0, 100.0
    for i in range(3000):
        now = 100 + i / 100
        ask, dead = h.check(now, heard, 90.0, 5.0)
        assert not dead
        if ask:
            asked += 1
            heard = now + 0.001
    assert 4 <= asked <= 6


def test_loss_is_counted_by_numbers():
    h = Health(3, 0.0)
    assert h.count(0.0, 0, -1) == 0
    assert h.count(0.5, 50, 49) == 0, "too few to tell"
    assert abs(h.count(1.0, 900, 999) - 0.1) < 0.01


# -- directory ------------------------------------------------------------------------------------


def test_fetching_the_directory_again_and_again_keeps_no_session():
    before = len(OWN._sessions)
    for _ in range(3):
        with pytest.raises(DirectoryError, match="cannot be read"):
            fetch("http://127.0.0.1:9", bytes(32), timeout=1)
    assert len(OWN._sessions) == before


# -- resolver ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "link", "none"])
def test_resolv_conf_comes_back_exactly_after_a_crash_too(tmp_path, kind):
    path, other = tmp_path / "resolv.conf", tmp_path / "stub"
    other.write_text("nameserver 127.0.0.53\n")
    if kind == "file":
        path.write_bytes(b"# mine\nnameserver 192.168.1.1\n\n")
        path.chmod(0o640)
    elif kind == "link":
        path.symlink_to("stub")
    Resolver(tmp_path / "dns.json", path).set("bw0", ["198.18.41.2"])
    assert "nameserver 198.18.41.2\n" in path.read_text() and not path.is_symlink()
    assert other.read_text() == "nameserver 127.0.0.53\n"
    Resolver(tmp_path / "dns.json", path).set("bw0", ["198.18.41.2"])  # a second run after a crash
    assert Resolver(tmp_path / "dns.json", path).restore()
    if kind == "file":
        assert path.read_bytes() == b"# mine\nnameserver 192.168.1.1\n\n" and path.stat().st_mode & 0o777 == 0o640
    elif kind == "link":
        assert path.is_symlink() and os.readlink(path) == "stub"
    else:
        assert not path.exists()
    assert not Resolver(tmp_path / "dns.json", path).restore()


# -- switch ------------------------------------------------------------------------------------------


def test_switch_rules_name_the_endpoints_and_nothing_else():
    text = killswitch.ruleset("bw0", 0xB17, [("udp", "198.18.1.2", 51900), ("udp", "2001:2::1", 7)], ["10.0.0.0/8"])
    assert "udp . 198.18.1.2 . 51900" in text and "udp . 2001:2::1 . 7" in text and "10.0.0.0/8" in text
    assert text.count("policy drop;") == 3 and "policy accept" not in text
