"""What the owner asks of gateway and chain: earnings, claim, stake, unstake."""

import json

from . import Usage, most, settings_of


def _owner(words, options):
    from ..agent.agent import check_settings
    from ..agent.owner import Owner

    most(words, 0)
    settings = settings_of(options)
    check_settings(settings)
    return Owner(settings)


def earnings(words, options):
    said = _owner(words, options).earnings()
    if options["json"]:
        print(json.dumps(said))
    else:
        print("units     %d redeemed, worth %s wei" % (said["units"], said["cumulative_wei"]))
        posted = said["posted"]
        shown = "%s wei, epoch %d" % (posted["cumulative_wei"], posted["epoch"]) if posted else "nothing yet"
        print("posted    " + shown)
        print("paid      %s wei to %s, which holds %s" % (said["claimed_wei"], said["payout"], said["balance_wei"]))
        proved = said["proved"]
        print("proof     " + ("holds at block %d" % proved["block"] if proved else "FAILS: " + said["proof_error"]))
    return 0 if said["proved"] else 1


def claim(words, options):
    found = _owner(words, options).claim()
    if options["json"]:
        print(json.dumps(found))
        return
    if "data" not in found:
        print("nothing to claim: %s wei are paid to %s" % (found["claimed_wei"], found["account"]))
        return
    when = "now" if found["final"] else "when the challenge window of its root is over"
    print("%s wei are due to %s, %s" % (found["due_wei"], found["account"], when))
    print("The gateway claims by itself. If it does not, any wallet may send this transaction:")
    print("to   " + found["to"])
    print("data " + found["data"])


def challenge(words, options):
    """Exit code 1 when a root is short; 0 when all that could be looked at hold what was promised."""
    from ..agent.agent import check_settings
    from ..agent.challenge import look

    most(words, 0)
    settings = settings_of(options)
    check_settings(settings)
    found = look(settings)
    if options["json"]:
        print(json.dumps({"gateways": found}))
    else:
        for entry in found:
            print("gateway   %s: %s" % (entry["url"], entry["error"] or _shown(entry)))
            for name in ("to", "data", "bond_wei", "bond_token", "bond_data") if "data" in entry else ():
                print("%-10s%s" % (name, entry[name]))
        if not found:
            print("no receipt for the chain is kept: nothing was redeemed yet")
    return 1 if [entry for entry in found if entry["code"]] else 0


def _shown(entry):
    if not entry["code"]:
        return "the root of epoch %d holds what its receipts promise" % entry["epoch"]
    words = "the root of epoch %d holds %s wei, its receipt promises %s (%s). "
    words = words % (entry["epoch"], entry["posted_wei"], entry["promised_wei"], entry["code"])
    if not entry["until"]:
        return words + "It is final: the next root can be challenged"
    return words + (
        "Any wallet may challenge it until unix time %d: bond_data to bond_token lets the contract take the bond, then"
        " data to `to`; the bond is lost if the gateway shows the leaf" % entry["until"]
    )


def stake(words, options):
    """Without --yes only looks."""
    owner = _owner(words, options)
    if options["yes"]:
        sent = owner.register()
        print(json.dumps(sent) if options["json"] else "stake sent in transaction %s" % sent["tx"])
        return
    found = owner.stake()
    found["wanted_wei"] = owner.settings["stake_wei"]
    if options["json"]:
        print(json.dumps(found))
        return
    if found["state"] == "none":
        print("none; stake_wei is %s: the agent makes it, or `bwrouter stake --yes` now" % found["wanted_wei"])
    else:
        shown = (found["stake"], found["state"], found["region"], found["rate_kbps"], found["payout"])
        print("%s wei, %s; region %d, %d kbit/s, payout %s" % shown)


def unstake(words, options):
    if not options["yes"]:
        raise Usage("unstake ends what this router earns until it registers again: add --yes if that is meant")
    sent = _owner(words, options).unstake()
    print(json.dumps(sent) if options["json"] else "notice given in transaction " + sent["tx"])
