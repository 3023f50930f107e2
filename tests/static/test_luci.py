"""The owner's page hangs together: ACL, rpc.declare, plugin, menu, UCI file, init script and config.json name the same."""

import json
import re
import sys
from pathlib import Path

import pytest
import rjsmin

from bwrouter.platform.config import SETTINGS
from scripts import i18n

ROOT = Path(__file__).parents[2]
APP = ROOT / "luci-app"
FILES = APP / "htdocs/luci-static/resources"
ACL = json.loads((APP / "root/usr/share/rpcd/acl.d/luci-app-bwrouter.json").read_text())["luci-app-bwrouter"]
PLUGIN = (APP / "root/usr/share/rpcd/ucode/bwrouter.uc").read_text()
BACKEND = (FILES / "bwrouter/backend.js").read_text()
SETTINGS_VIEW = (FILES / "view/bwrouter/settings.js").read_text()
UCI = (ROOT / "files/etc/config/bwrouter").read_text()
INIT = (ROOT / "files/etc/init.d/bwrouter").read_text()
SIZE_MOST = 60_000  # bytes of the app, minified as LuCI's build does
# Made by the init script of what it asks netifd and the clock, or of places that do not change.
MADE = {"wan_v4", "wan_v6", "timezone_offset_min", "run_dir", "state_dir"}
# What the init script turns into other settings, and the switch that it reads itself.
TURNED = {"lan": "lan_prefixes", "lan_prefix": "lan_prefixes", "wan6": "wan_v6", "wan": "wan"}
INIT_ONLY = {"enabled", "firewall_zone"}


def scripts() -> list[Path]:
    return sorted(FILES.rglob("*.js"))


def plugin_methods() -> dict[str, set[str]]:
    """Methods with the names of their arguments, as the plugin declares them."""
    body = PLUGIN[PLUGIN.index("const methods = {") :]
    found = re.findall(r"^\t(\w+): \{\n(?:\t\targs: \{ (.*?) \},\n)?\t\tcall:", body, re.M)
    assert len(found) == len(re.findall(r"^\t\tcall:", body, re.M))
    return {name: set(re.findall(r"(\w+):", args)) for name, args in found}


def uci_options() -> set[str]:
    """Options and lists of section `main`, set or commented out."""
    return set(re.findall(r"^\t#?(?:option|list) (\w+) ", UCI[: UCI.index("config gateway")], re.M))


def form_options() -> set[str]:
    named = re.findall(r"form\.(?:Value|Flag|ListValue|DynamicList), '(\w+)'", SETTINGS_VIEW)
    return set(named) | set(re.findall(r"\[ '(exit_\w+)', _\(", SETTINGS_VIEW))


def init_options() -> set[str]:
    rules = re.findall(r"^(?:INTEGERS|STRINGS|BOOLEANS|LISTS|OTHERS)='([^']*)'", INIT, re.M)
    return {rule.split(":")[0] for line in rules for rule in line.split()}


def test_acl_and_plugin_name_the_same_methods() -> None:
    read, write = ACL["read"]["ubus"], ACL["write"]["ubus"]
    assert set(read) == set(write) == {"luci.bwrouter"}
    granted = read["luci.bwrouter"] + write["luci.bwrouter"]
    assert sorted(granted) == sorted(plugin_methods()), "a method without a right, or a right without a method"
    # Who may only look gets what changes nothing.
    assert set(read["luci.bwrouter"]) == {"status", "history", "result"}


def test_every_call_is_declared_as_the_plugin_has_it() -> None:
    declared = {
        name: set(re.findall(r"'(\w+)'", params))
        for name, params in re.findall(r"\bcall\('(\w+)'(?:, \[ (.*?) \])?\)", BACKEND)
    }
    assert declared == plugin_methods()
    for path in scripts():
        if path.name != "backend.js":
            assert "rpc.declare" not in path.read_text(), f"{path}: calls are declared in backend.js"


def test_rights_to_files_and_uci_are_what_is_used() -> None:
    used = re.findall(r"fs\.exec\('([^']*)', \[ (.*?) \]\)", "\n".join(p.read_text() for p in scripts()))
    commands = {" ".join([program, *re.findall(r"'([^']*)'", words)]) for program, words in used}
    assert commands == set(ACL["read"]["file"]) and "file" not in ACL["write"]
    assert ACL["read"]["uci"] == ACL["write"]["uci"] == ["bwrouter"]


def test_menu_leads_to_views() -> None:
    menu = json.loads((APP / "root/usr/share/luci/menu.d/luci-app-bwrouter.json").read_text())
    views = {entry["action"]["path"] for entry in menu.values() if entry["action"]["type"] == "view"}
    assert views == {f"bwrouter/{p.stem}" for p in (FILES / "view/bwrouter").glob("*.js")}
    assert menu["admin/services/bwrouter"]["depends"]["acl"] == ["luci-app-bwrouter"]


def test_form_uci_and_init_script_have_the_same_options() -> None:
    assert form_options() - {"url", "key"} == uci_options() == init_options()
    assert {"url", "key"} <= form_options()
    gateway = set(re.findall(r"^#\toption (\w+) ", UCI, re.M))
    assert gateway == {"url", "key"}
    assert re.search(r"validate_gateway.*?'url:.*?'key:", INIT, re.S)


def test_every_option_reaches_a_setting_and_every_setting_has_an_option() -> None:
    turned = {TURNED.get(name, name) for name in uci_options() - INIT_ONLY}
    unknown = turned - set(SETTINGS)
    assert not unknown, f"options that no setting takes: {unknown}"
    missing = set(SETTINGS) - turned - MADE - {"gateways"}
    assert not missing, f"settings that no option of the page reaches: {missing}"
    for name in INIT_ONLY:
        assert re.search(rf"\${name}\b|config_get \w+ main {name}\b", INIT), f"the init script does not use {name}"


def test_every_setting_has_a_consumer() -> None:
    sources = {p: p.read_text() for p in (ROOT / "src/bwrouter").rglob("*.py") if p.name != "config.py"}
    code = "\n".join(sources.values())
    # `workers` is the init script's too: it opens a port for each.
    unused = [name for name in SETTINGS if f'"{name}"' not in code and f"config.{name}(" not in code and f"${{{name}" not in INIT]
    assert not unused, f"settings that nothing reads: {unused}"


def test_defaults_shown_are_the_agents() -> None:
    """A placeholder is the default of config.py, in the page's unit."""
    factor = dict.fromkeys(re.findall(r"'(\w+_kbps|quota_\w+_mb)'.*?scaled\(o, 1000\)", SETTINGS_VIEW), 1000)
    for block in SETTINGS_VIEW.split("taboption(")[1:]:
        name = re.search(r"form\.Value, '(\w+)'", block)
        shown = re.search(r"o\.placeholder = '([^']*)'", block.split("\n}\n")[0])
        if not name or not shown or name[1] in TURNED or name[1] not in SETTINGS:
            continue
        scale = 1000 if "scaled(o, 1000)" in block.split("\n}\n")[0] else factor.get(name[1], 1)
        default = SETTINGS[name[1]][1]
        assert shown[1] == str(default if isinstance(default, str) else default // scale), name[1]


def test_nothing_of_data_becomes_markup() -> None:
    """E() takes a bare string as markup; eslint refuses it too (eslint.config.mjs)."""
    for path in scripts():
        text = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|rawhtml|\beval\b", text), path
        bare = re.findall(r"\bE\('\w+', \{[^{}]*\}, (?:'|`|_\(|words\.)[^\n]*", text)
        assert not bare, f"{path}: {bare}"


def test_nothing_is_asked_of_other_hosts() -> None:
    allowed = {"http://www.w3.org/2000/svg", "https://gateway.example.org"}
    for path in [p for p in APP.rglob("*") if p.is_file() and p.suffix in (".js", ".css", ".json", ".uc")]:
        found = set(re.findall(r"https?://[\w./-]{3,}", path.read_text())) - allowed
        assert not found, f"{path}: {found}"


def test_the_plugin_gives_nothing_to_a_shell() -> None:
    assert not re.search(r"\b(system|popen|eval|loadstring|include|require)\b\s*\(", PLUGIN)
    assert re.findall(r"import \{ (.*) \} from '(\w+)'", PLUGIN) == [
        ("open, lstat, mkdir, rename, unlink", "fs"),
        ("process", "uloop"),
    ]
    # Programs have constant names; only words of constant lists and paths follow them.
    assert set(re.findall(r"\bprocess\((\w+),", PLUGIN)) == {"program"}
    assert set(re.findall(r"\bstart\((?:name|'\w+'), (\w+),", PLUGIN)) == {"ORDER", "INIT", "program"} - {"program"} | {"program"}


def size(path: Path) -> int:
    """Bytes as LuCI's build ships a file: JavaScript and style sheets without comments and needless space."""
    text = path.read_text()
    if path.suffix == ".js":
        text = str(rjsmin.jsmin(text))
    elif path.suffix == ".css":
        text = re.sub(r"\s*([{};,>])\s*", r"\1", re.sub(r"/\*.*?\*/", "", text, flags=re.S)).replace(": ", ":")
    return len(text.encode())


def test_size() -> None:
    total = sum(size(p) for area in ("htdocs", "root") for p in (APP / area).rglob("*") if p.is_file())
    print(f"luci-app, minified: {total} bytes")
    assert total <= SIZE_MOST


def test_messages_are_gathered_and_translated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code = i18n.main(check=True)
    assert code == 0, capsys.readouterr().out


def test_the_check_of_messages_finds_what_it_is_for() -> None:
    assert i18n.wrong("%s of %d", "%s de %d") == ""
    assert "placeholders" in i18n.wrong("%s of %d", "%d de %s")
    assert i18n.wrong("a", "") == "is not translated"
    assert sys.version_info >= (3, 11)
