// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

// Every number of the contracts. Reasons and ranges: docs/economics.md.
// Amounts are wei of BWT or of a region's token (1e18 wei = 1 BWT, or 1 GiB through one hop); shares are basis points.

uint256 constant BPS = 10_000;

// Tokens
uint256 constant BWT_SUPPLY = 1_000_000_000e18; // all that will ever exist
uint256 constant REGION_GENESIS_MAX = 1_000_000e18; // most that a region's first liquidity may mint: 1 million GiB·hop

// Pools
uint256 constant POOL_FEE_BPS = 30; // of the input, to the liquidity providers
uint256 constant POOL_LOCKED_SHARES = 1_000; // shares of the first deposit that nobody owns
uint256 constant PRICE_FLOOR = 0.001e18; // BWT wei for 1e18 wei of a region's token; the same in every region
uint256 constant PRICE_UNITS = 1e9; // the pool's clock counts prices in these parts of a BWT
uint256 constant PRICE_CAP = 8_000_000; // of those (0.008 BWT, 4 PRICE_TARGET): a higher price weighs no more in a mean
uint256 constant TWAP_MAX_SPAN = 30 days; // PRICE_CAP * TWAP_MAX_SPAN < 2^48, the width of the pool's clock

// Settlement
uint256 constant PHI_BPS = 1_000; // share of what buyers spend that is burned
uint256 constant UNIT_WEI = 1e18 / 16_384; // one ticket unit of 65,536 bytes
uint256 constant GATEWAY_BOND = 10_000e18; // least BWT a gateway keeps at stake
uint256 constant CHALLENGE_BOND = 100e18; // BWT under which a root is challenged; to the gateway when it can answer
uint256 constant FINDER_BPS = 1_000; // of what is slashed, to whoever brings the proof; the rest is burned

// Stakes
uint256 constant STAKE_PER_MBPS = 0.1e18; // BWT for each claimed Mbit/s (rounded up)
uint256 constant STAKE_MIN = 10e18; // BWT, whatever the claim
uint32 constant RATE_MAX_KBPS = 10_000_000; // the largest claim: 10 Gbit/s

// Audits
uint256 constant VERIFIER_BOND = 1_000e18; // BWT of one verifier; one bond, one seat in the draw
uint256 constant COMMITTEE = 10; // seats of a committee, fewer while there are fewer than twenty verifiers
uint256 constant COMMITTEE_MIN = 3; // below that no audit takes place
uint256 constant VERDICT_BPS = 7_000; // of the seats that must agree: 7 of 10
uint256 constant SLOW_BPS = 9_000; // a report below this share of the claim is a vote for "slow"
uint256 constant SILENCE_PENALTY = 20e18; // BWT burned of a verifier that committed and did not reveal
uint256 constant ACQUITTALS = 2; // good verdicts in a row that lift a suspension
uint256 constant SLASH_SLOW_BPS = 2_000; // of the stake, for a rate that is not there
uint256 constant SLASH_CORRUPT_BPS = 10_000; // of the stake, for wrong keystream
uint256 constant DOWNTIME_CREDIT = 36 hours; // tolerated downtime, 5 % of ...
uint256 constant DOWNTIME_PERIOD = 30 days; // ... this period, in which the credit fills again
uint256 constant SCORE_RISE = 32; // a good verdict closes 1/32 of the gap to a full score
uint256 constant SCORE_FALL = 8; // an adverse one takes 1/8 of the score

// Emission
uint256 constant TRAFFIC_EMISSION_BPS = 5_000; // of the share φ that an earning burned; must stay below BPS
uint256 constant TRAFFIC_MIN_SCORE = 2_500; // basis points; about nine good audits
uint256 constant PRICE_TARGET = 0.002e18; // mean price from which a region counts as under-supplied
uint256 constant CAPACITY_BUDGET_BPS = 10; // of a region's supply, the most that one epoch mints for capacity
uint256 constant CAPACITY_PAY_BPS = 100; // of what the idle capacity could carry in the epoch, the most that it is paid
uint256 constant PREFIX_CAP_KBPS = 200_000; // capacity that counts for one IPv4 /24, and for one IPv6 /48
uint256 constant WEI_PER_KBPS_SECOND = 125e18 / uint256(1 << 30); // region wei that 1 kbit/s carries in a second

/// Durations in seconds. A laboratory may use seconds where a public chain uses days.
struct Windows {
    uint32 epoch; // length of a settlement epoch
    uint32 challenge; // a posted root can be challenged for this long before anybody can claim from it
    uint32 response; // a challenged gateway has this long to show the leaf
    uint32 withdrawal; // notice of a buyer who takes unspent deposit back
    uint32 unbonding; // notice of a router, verifier or gateway that takes its stake back
    uint32 auditEpoch; // length of an audit epoch; one committee a relay in each
    uint32 commit; // of it, time to commit
    uint32 reveal; // of it, time to reveal
    uint32 dispute; // a suspended relay can be acquitted for this long before it is slashed
    uint32 emissionEpoch; // length of an emission epoch
    uint32 twap; // shortest span over which a price counts for emission
}

/// @title Durations of one deployment, checked against each other once, for ever constant.
contract Parameters {
    error WindowOutOfRange(string name);

    uint32 public immutable epoch;
    uint32 public immutable challenge;
    uint32 public immutable response;
    uint32 public immutable withdrawal;
    uint32 public immutable unbonding;
    uint32 public immutable auditEpoch;
    uint32 public immutable commit;
    uint32 public immutable reveal;
    uint32 public immutable dispute;
    uint32 public immutable emissionEpoch;
    uint32 public immutable twap;

    constructor(Windows memory w) {
        if (w.epoch == 0) revert WindowOutOfRange("epoch");
        if (w.response == 0) revert WindowOutOfRange("response");
        if (w.commit == 0) revert WindowOutOfRange("commit");
        if (w.reveal == 0) revert WindowOutOfRange("reveal");
        if (w.emissionEpoch == 0) revert WindowOutOfRange("emissionEpoch");
        if (w.twap == 0 || w.twap > w.emissionEpoch) revert WindowOutOfRange("twap");
        // The seed block of an epoch, the commits and the reveals must all lie inside it.
        if (uint256(w.commit) + w.reveal >= w.auditEpoch) revert WindowOutOfRange("auditEpoch");
        // A withdrawal must not be able to overtake a root that is being posted.
        if (w.withdrawal < w.challenge) revert WindowOutOfRange("withdrawal");
        // Two audits and the dispute after them must find the stake still there.
        if (w.unbonding <= 2 * uint256(w.auditEpoch) + w.dispute) revert WindowOutOfRange("unbonding");
        if (w.unbonding <= uint256(w.challenge) + w.response) revert WindowOutOfRange("unbonding");
        epoch = w.epoch;
        challenge = w.challenge;
        response = w.response;
        withdrawal = w.withdrawal;
        unbonding = w.unbonding;
        auditEpoch = w.auditEpoch;
        commit = w.commit;
        reveal = w.reveal;
        dispute = w.dispute;
        emissionEpoch = w.emissionEpoch;
        twap = w.twap;
    }
}
