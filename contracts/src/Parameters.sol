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
uint256 constant PRICE_UNITS = 1e6; // the pool's clock counts prices in millionths of a BWT
uint256 constant PRICE_CAP = 1 << 26; // of those: a price above 67 BWT counts as 67 BWT
uint256 constant TWAP_MAX_SPAN = 30 days; // PRICE_CAP * TWAP_MAX_SPAN < 2^48, the width of the pool's clock

// Settlement
uint256 constant PHI_BPS = 1_000; // share of what buyers spend that is burned
uint256 constant UNIT_WEI = 1e18 / 16_384; // one ticket unit of 65,536 bytes
uint256 constant GATEWAY_BOND = 10_000e18; // least BWT a gateway keeps at stake

// Stakes
uint256 constant STAKE_PER_MBPS = 0.1e18; // BWT for each claimed Mbit/s (rounded up)
uint256 constant STAKE_MIN = 10e18; // BWT, whatever the claim
uint32 constant RATE_MAX_KBPS = 10_000_000; // the largest claim: 10 Gbit/s

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
