// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BandwidthProof} from "./BandwidthProof.sol";
import {LiquidityPool} from "./LiquidityPool.sol";
import {
    BPS,
    CAPACITY_BUDGET_BPS,
    CAPACITY_PAY_BPS,
    PHI_BPS,
    PREFIX_CAP_KBPS,
    PRICE_TARGET,
    Parameters,
    STAKE_PER_MBPS,
    TRAFFIC_EMISSION_BPS,
    TRAFFIC_MIN_SCORE,
    TWAP_MAX_SPAN,
    WEI_PER_KBPS_SECOND
} from "./Parameters.sol";
import {PoolFactory} from "./PoolFactory.sol";
import {RegionToken} from "./RegionToken.sol";
import {Settlement} from "./Settlement.sol";
import {StakeRegistry} from "./StakeRegistry.sol";

/// @title What is minted in a region, and for whom.
/// @notice Traffic: an account that has claimed earnings is given a part, below one, of the φ that those earnings burned;
/// the region's token refuses more than was burned in all (E < φ(V+H), whoever trades with whom). Capacity: in a
/// region whose mean price stands above PRICE_TARGET, audited idle capacity x uptime shares a bounded budget, capped by
/// stake and by address prefix. All calls are permissionless and pay only the relay's payout.
contract Emission {
    error NotActive(bytes32 relayId);
    error AlreadyEnrolled(bytes32 relayId, uint32 epoch);
    error NothingAudited(bytes32 relayId);
    error PrefixFull(bytes32 relayId);
    error EpochNotOver(uint32 epoch);
    error NotEnrolled(bytes32 relayId, uint32 epoch);
    error NothingToEmit();
    error UnknownRegion(uint16 region);
    error TwapTooShort(uint256 span, uint256 least);

    /// A region's epoch.
    struct Round {
        uint48 cumulative; // the pool's clock when the round was opened
        uint32 openedAt; // zero: not opened
        bool closed;
        uint64 weight; // sum of all enrolled, kbit/s
        uint96 budget; // set on closing, region wei
    }

    event RoundOpened(uint16 indexed region, uint32 indexed epoch);
    event Enrolled(bytes32 indexed relayId, uint16 indexed region, uint32 indexed epoch, uint256 weight);
    event RoundClosed(uint16 indexed region, uint32 indexed epoch, uint256 meanPrice, uint256 budget);
    event CapacityPaid(bytes32 indexed relayId, uint32 indexed epoch, address indexed payout, uint256 amount);
    event TrafficPaid(bytes32 indexed relayId, address indexed payout, uint256 earned, uint256 amount);

    StakeRegistry public immutable registry;
    BandwidthProof public immutable proof;
    Settlement public immutable settlement;
    PoolFactory public immutable factory;
    uint256 public immutable epochSeconds;
    uint256 public immutable twapSeconds;
    uint256 public immutable auditsPerEpoch;

    mapping(uint16 region => mapping(uint32 epoch => Round)) public rounds;
    mapping(bytes32 relayId => mapping(uint32 epoch => uint256)) public weightOf;
    mapping(uint16 region => mapping(uint32 epoch => mapping(uint256 prefix => uint256))) public prefixUsed;
    /// The audited capacity that a relay has enrolled up to now.
    mapping(bytes32 relayId => uint64) public capacityCounted;
    /// The claimed earnings for which traffic emission has been settled.
    mapping(address gateway => mapping(uint16 region => mapping(address account => uint256))) public earningsCounted;

    constructor(
        Parameters parameters,
        StakeRegistry registry_,
        BandwidthProof proof_,
        Settlement settlement_,
        PoolFactory factory_
    ) {
        registry = registry_;
        proof = proof_;
        settlement = settlement_;
        factory = factory_;
        epochSeconds = parameters.emissionEpoch();
        twapSeconds = parameters.twap();
        uint256 audits = epochSeconds / parameters.auditEpoch();
        auditsPerEpoch = audits == 0 ? 1 : audits;
    }

    function currentEpoch() public view returns (uint32) {
        return uint32(block.timestamp / epochSeconds);
    }

    // --- capacity ---------------------------------------------------------------------------------------------

    /// Notes the price clock of a region's pool for the current epoch; the first enrolment does it too.
    function open(uint16 region) public {
        Round storage r = rounds[region][currentEpoch()];
        if (r.openedAt != 0) return;
        (r.cumulative, r.openedAt) = _pool(region).cumulativePrice();
        emit RoundOpened(region, currentEpoch());
    }

    /// Enters the capacity that audits have found since the relay's last enrolment, as a mean over the audits of an epoch:
    /// an epoch in which it was not measured counts as zero. At most what is claimed, staked for, and left of its prefixes.
    function enrol(bytes32 relayId) external returns (uint256 weight) {
        uint32 epoch = currentEpoch();
        StakeRegistry.Relay memory relay = registry.relay(relayId);
        BandwidthProof.Standing memory s = proof.standing(relayId);
        if (relay.state != StakeRegistry.State.Active || s.strikes != 0) revert NotActive(relayId);
        if (weightOf[relayId][epoch] != 0) revert AlreadyEnrolled(relayId, epoch);
        open(relay.region);
        weight = (s.capacity - capacityCounted[relayId]) / auditsPerEpoch;
        capacityCounted[relayId] = s.capacity;
        weight = _least(weight, _least(relay.rateKbps, relay.stake * 1000 / STAKE_PER_MBPS));
        if (weight == 0 || (s.prefix4 == 0 && s.prefix6 == 0)) revert NothingAudited(relayId);
        // An IPv6 prefix is told from an IPv4 one by bit 48.
        if (s.prefix4 != 0) weight = _least(weight, PREFIX_CAP_KBPS - prefixUsed[relay.region][epoch][s.prefix4]);
        uint256 key6 = 1 << 48 | uint256(s.prefix6);
        if (s.prefix6 != 0) weight = _least(weight, PREFIX_CAP_KBPS - prefixUsed[relay.region][epoch][key6]);
        if (weight == 0) revert PrefixFull(relayId);
        if (s.prefix4 != 0) prefixUsed[relay.region][epoch][s.prefix4] += weight;
        if (s.prefix6 != 0) prefixUsed[relay.region][epoch][key6] += weight;
        weightOf[relayId][epoch] = weight;
        rounds[relay.region][epoch].weight += uint64(weight);
        emit Enrolled(relayId, relay.region, epoch, weight);
    }

    /// Fixes the budget of a past epoch by the mean price since the round was opened. Nothing in it looks at the spot price.
    function close(uint16 region, uint32 epoch) public {
        if (epoch >= currentEpoch()) revert EpochNotOver(epoch);
        Round storage r = rounds[region][epoch];
        if (r.closed || r.openedAt == 0) return;
        uint256 span = block.timestamp - r.openedAt;
        if (span < twapSeconds) revert TwapTooShort(span, twapSeconds);
        r.closed = true;
        uint256 price = span > TWAP_MAX_SPAN ? 0 : _pool(region).meanPrice(r.cumulative, r.openedAt);
        uint256 supply = RegionToken(factory.tokenOf(region)).totalSupply();
        uint256 budget = _least(budgetFor(price, supply, r.weight), type(uint96).max);
        r.budget = uint96(budget);
        emit RoundClosed(region, epoch, price, budget);
    }

    /// Region wei that an epoch mints for `weight` kbit/s: nothing up to PRICE_TARGET, growing to the whole at twice the target.
    function budgetFor(uint256 price, uint256 supply, uint256 weight) public view returns (uint256) {
        if (price <= PRICE_TARGET) return 0;
        uint256 bps = _least((price - PRICE_TARGET) * BPS / PRICE_TARGET, BPS);
        uint256 bySupply = supply * CAPACITY_BUDGET_BPS / BPS;
        uint256 byWeight = weight * epochSeconds * WEI_PER_KBPS_SECOND * CAPACITY_PAY_BPS / BPS;
        return _least(bySupply, byWeight) * bps / BPS;
    }

    /// Pays a relay its part of a past epoch's budget. A relay that is not in good standing waits until it is again.
    function collectCapacity(bytes32 relayId, uint32 epoch) external returns (uint256 amount) {
        StakeRegistry.Relay memory relay = registry.relay(relayId);
        if (relay.state != StakeRegistry.State.Active || proof.standing(relayId).strikes != 0) {
            revert NotActive(relayId);
        }
        uint256 weight = weightOf[relayId][epoch];
        if (weight == 0) revert NotEnrolled(relayId, epoch);
        close(relay.region, epoch);
        weightOf[relayId][epoch] = 0;
        Round memory r = rounds[relay.region][epoch];
        amount = r.budget * weight / r.weight;
        if (amount == 0) revert NothingToEmit();
        emit CapacityPaid(relayId, epoch, relay.payout, amount);
        RegionToken(factory.tokenOf(relay.region)).emitCapacity(relay.payout, amount);
    }

    // --- traffic ----------------------------------------------------------------------------------------------

    /// Pays for what the relay's payout has claimed from `gateways` since it was last counted. The relay must be in good
    /// standing; as every such relay pays its payout the same, nobody gains or harms by naming another one.
    function collectTraffic(bytes32 relayId, address[] calldata gateways) external returns (uint256 amount) {
        StakeRegistry.Relay memory relay = registry.relay(relayId);
        BandwidthProof.Standing memory s = proof.standing(relayId);
        if (relay.state != StakeRegistry.State.Active || s.strikes != 0 || s.score < TRAFFIC_MIN_SCORE) {
            revert NotActive(relayId);
        }
        uint256 earned;
        for (uint256 i = 0; i < gateways.length; ++i) {
            uint256 claimed = settlement.claimed(gateways[i], relay.region, relay.payout);
            earned += claimed - earningsCounted[gateways[i]][relay.region][relay.payout];
            earningsCounted[gateways[i]][relay.region][relay.payout] = claimed;
        }
        uint256 burned = earned * PHI_BPS / (BPS - PHI_BPS);
        amount = burned * TRAFFIC_EMISSION_BPS / BPS;
        if (amount == 0) revert NothingToEmit();
        emit TrafficPaid(relayId, relay.payout, earned, amount);
        RegionToken(factory.tokenOf(relay.region)).emitTraffic(relay.payout, amount);
    }

    // --- inside -----------------------------------------------------------------------------------------------

    function _pool(uint16 region) private view returns (LiquidityPool) {
        address pool = factory.poolOf(region);
        if (pool == address(0)) revert UnknownRegion(region);
        return LiquidityPool(pool);
    }

    function _least(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
