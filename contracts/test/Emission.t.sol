// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BandwidthProof} from "../src/BandwidthProof.sol";
import {Emission} from "../src/Emission.sol";
import {
    BPS,
    CAPACITY_BUDGET_BPS,
    CAPACITY_PAY_BPS,
    PHI_BPS,
    PREFIX_CAP_KBPS,
    PRICE_TARGET,
    TRAFFIC_EMISSION_BPS,
    WEI_PER_KBPS_SECOND
} from "../src/Parameters.sol";
import {RegionToken} from "../src/RegionToken.sol";
import {Settlement} from "../src/Settlement.sol";
import {AuditBase} from "./AuditBase.sol";

contract EmissionTest is AuditBase {
    function setUp() public override {
        super.setUp();
        seedPool(10_000e18, 900_000e18);
        bondGateway(gatewayKey);
        registerRelay(ID, routerKey, CLAIM, STAKE);
        joinVerifiers(VERIFIERS);
        nextEpoch();
        nextEpoch();
    }

    function _goodAudits(bytes32 relayId, uint32 kbps, uint256 count) private {
        for (uint256 i = 0; i < count; ++i) {
            auditAll(relayId, good(kbps));
        }
    }

    /// A claim of `net` wei by `account` from the gateway, all that it ever earned there.
    function _earn(address account, uint256 net, uint256 spentBefore) private {
        uint256 gross = settlement.grossOf(net);
        depositFor(gateway, buyer, gross - spentBefore);
        charge(gateway, buyerKey, gross);
        uint32 epoch = settlement.currentEpoch();
        vm.prank(gateway);
        settlement.postRoot(REGION, epoch, leafOf(account, net), net);
        vm.warp(block.timestamp + 6 hours);
        settlement.claim(gateway, REGION, account, net, new bytes32[](0));
    }

    function _gateways() private view returns (address[] memory list) {
        list = new address[](1);
        list[0] = gateway;
    }

    // --- traffic ----------------------------------------------------------------------------------------------

    function test_traffic_emission_is_half_of_what_the_claim_burned_and_once_only() public {
        _goodAudits(ID, CLAIM, 10);
        _earn(router, 90e18, 0);
        uint256 burned = token.usedBurned();
        eq(burned, 10e18, "burned");
        emission.collectTraffic(ID, _gateways());
        eq(token.balanceOf(router), 90e18 + burned * TRAFFIC_EMISSION_BPS / BPS, "earnings and half of the burn");
        vm.expectRevert(Emission.NothingToEmit.selector);
        emission.collectTraffic(ID, _gateways());
        _earn(router, 180e18, 100e18);
        emission.collectTraffic(ID, _gateways());
        eq(token.trafficEmitted(), 10e18, "half of twenty");
    }

    function test_second_relay_of_the_same_payout_collects_nothing_twice() public {
        _goodAudits(ID, CLAIM, 10);
        bytes32 other = keccak256("relay 2");
        registerRelay(other, routerKey, CLAIM, STAKE);
        _goodAudits(other, CLAIM, 10);
        _earn(router, 90e18, 0);
        emission.collectTraffic(ID, _gateways());
        vm.expectRevert(Emission.NothingToEmit.selector);
        emission.collectTraffic(other, _gateways());
    }

    function test_naming_the_same_gateway_twice_pays_once() public {
        _goodAudits(ID, CLAIM, 10);
        _earn(router, 90e18, 0);
        address[] memory twice = new address[](2);
        (twice[0], twice[1]) = (gateway, gateway);
        emission.collectTraffic(ID, twice);
        eq(token.trafficEmitted(), 5e18, "once");
    }

    function test_no_emission_without_standing() public {
        _earn(router, 90e18, 0);
        bytes memory refused = abi.encodeWithSelector(Emission.NotActive.selector, ID);
        vm.expectRevert(refused);
        emission.collectTraffic(ID, _gateways());
        _goodAudits(ID, CLAIM, 10);
        auditAll(ID, good(CLAIM / 2));
        vm.expectRevert(refused);
        emission.collectTraffic(ID, _gateways());
        vm.expectRevert(refused);
        emission.enrol(ID);
        auditAll(ID, good(CLAIM / 2));
        vm.expectRevert(refused);
        emission.collectTraffic(ID, _gateways());
        auditAll(ID, good(CLAIM));
        auditAll(ID, good(CLAIM));
        emission.collectTraffic(ID, _gateways());
        eq(token.trafficEmitted(), 5e18, "acquitted");
    }

    function test_token_refuses_traffic_emission_that_reaches_the_burn() public {
        _earn(router, 90e18, 0);
        vm.startPrank(address(emission));
        vm.expectRevert(abi.encodeWithSelector(RegionToken.TrafficEmissionAboveBurn.selector, 10e18, 10e18));
        token.emitTraffic(router, 10e18);
        token.emitTraffic(router, 10e18 - 1);
        vm.expectRevert(abi.encodeWithSelector(RegionToken.TrafficEmissionAboveBurn.selector, 10e18, 10e18));
        token.emitTraffic(router, 1);
        vm.stopPrank();
    }

    // --- capacity ---------------------------------------------------------------------------------------------

    /// A day of audits, then enrolment at its end; returns the epoch enrolled in.
    function _enrol(bytes32 relayId) private returns (uint32 epoch) {
        emission.enrol(relayId);
        return emission.currentEpoch();
    }

    function _nextDay() private {
        vm.warp((block.timestamp / 1 days + 1) * 1 days + 6 hours);
        height += 100;
    }

    function test_capacity_pays_mean_audited_rate_and_downtime_counts_as_zero() public {
        _goodAudits(ID, CLAIM, 12);
        uint32 epoch = _enrol(ID);
        eq(emission.weightOf(ID, epoch), CLAIM / 2, "12 audits of 24");
        vm.expectRevert(abi.encodeWithSelector(Emission.AlreadyEnrolled.selector, ID, epoch));
        emission.enrol(ID);
        vm.expectRevert(abi.encodeWithSelector(Emission.EpochNotOver.selector, epoch));
        emission.collectCapacity(ID, epoch);
        _nextDay();
        uint256 amount = emission.collectCapacity(ID, epoch);
        uint256 all = uint256(CLAIM) / 2 * 1 days * WEI_PER_KBPS_SECOND * CAPACITY_PAY_BPS / BPS;
        eq(amount, all, "1 % of what 20 Mbit/s carry in a day: price is over twice the target");
        eq(token.balanceOf(router), amount, "paid");
        vm.expectRevert(abi.encodeWithSelector(Emission.NotEnrolled.selector, ID, epoch));
        emission.collectCapacity(ID, epoch);
        vm.expectRevert(abi.encodeWithSelector(Emission.NothingAudited.selector, ID));
        emission.enrol(ID);
    }

    function test_budget_follows_the_mean_price_and_stops_at_the_target() public view {
        eq(emission.budgetFor(PRICE_TARGET, 1e24, 1e6), 0, "at the target");
        uint256 whole = emission.budgetFor(2 * PRICE_TARGET, 1e24, type(uint64).max);
        eq(whole, 1e24 * CAPACITY_BUDGET_BPS / BPS, "at twice the target: by supply");
        eq(emission.budgetFor(9 * PRICE_TARGET, 1e24, type(uint64).max), whole, "never more");
        eq(emission.budgetFor(PRICE_TARGET * 3 / 2, 1e24, type(uint64).max), whole / 2, "half way");
    }

    function test_capacity_is_capped_by_stake_and_prefix() public {
        // 30 relays of 40 Mbit/s in one /24 count as 200 Mbit/s.
        uint256 total;
        _goodAudits(ID, CLAIM, 24);
        total += emission.enrol(ID);
        for (uint256 k = 0; k < 5; ++k) {
            bytes32 id = keccak256(abi.encode("sybil", k));
            registerRelay(id, 0x5151 + k, CLAIM, 10e18);
            for (uint256 i = 0; i < 24; ++i) {
                auditAll(id, good(CLAIM));
            }
            if (total == PREFIX_CAP_KBPS) {
                vm.expectRevert(abi.encodeWithSelector(Emission.PrefixFull.selector, id));
                emission.enrol(id);
            } else {
                vm.warp(block.timestamp / 1 days * 1 days + 23 hours);
            }
            uint32 today = emission.currentEpoch();
            if (emission.prefixUsed(REGION, today, PREFIX4) < PREFIX_CAP_KBPS) emission.enrol(id);
            yes(emission.prefixUsed(REGION, today, PREFIX4) <= PREFIX_CAP_KBPS, "prefix cap");
        }
    }

    function test_gateway_of_another_region_or_unknown_region_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(Emission.UnknownRegion.selector, 77));
        emission.open(77);
    }
}
