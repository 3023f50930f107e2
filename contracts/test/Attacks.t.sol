// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BandwidthProof} from "../src/BandwidthProof.sol";
import {Emission} from "../src/Emission.sol";
import {LiquidityPool} from "../src/LiquidityPool.sol";
import {Parameters} from "../src/Parameters.sol";
import {BPS, PREFIX_CAP_KBPS, PRICE_TARGET, REGION_GENESIS_MAX, STAKE_PER_MBPS} from "../src/Parameters.sol";
import {RegionToken} from "../src/RegionToken.sol";
import {Settlement} from "../src/Settlement.sol";
import {StakeRegistry} from "../src/StakeRegistry.sol";
import {AuditBase} from "./AuditBase.sol";

/// The attacks of docs/economics.md, under the names they have there. Each loses; contracts/mutations.py removes the
/// guard and shows that the test then fails.
contract AttacksTest is AuditBase {
    uint256 private constant EVE = 0xE7E;
    bytes32 private constant ID2 = keccak256("relay in region 2");
    address private eve;

    function setUp() public override {
        super.setUp();
        eve = vm.addr(EVE);
        seedPool(10_000e18, 900_000e18);
        bondGateway(gatewayKey);
        joinVerifiers(VERIFIERS);
        nextEpoch();
        nextEpoch();
    }

    function _list(address one) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = one;
    }

    /// A1. Eve is buyer, relay and gateway at once and buys from herself: every token that goes round comes back smaller.
    function test_A1_self_dealing_loses_whatever_the_volume(uint64 volume) public {
        uint256 v = 1e15 + uint256(volume) % 50_000e18;
        bondGateway(EVE);
        registerRelay(ID, EVE, CLAIM, STAKE);
        for (uint256 i = 0; i < 10; ++i) {
            auditAll(ID, good(CLAIM));
        }
        token.transfer(eve, v);
        vm.startPrank(eve);
        token.approve(address(settlement), v);
        settlement.deposit(eve, REGION, eve, v);
        vm.stopPrank();
        charge(eve, EVE, v);
        uint256 net = v * 9 / 10;
        uint32 epoch = settlement.currentEpoch();
        vm.prank(eve);
        settlement.postRoot(REGION, epoch, leafOf(eve, net), net);
        vm.warp(block.timestamp + 6 hours);
        settlement.claim(eve, REGION, eve, net, new bytes32[](0));
        emission.collectTraffic(ID, _list(eve));
        yes(token.balanceOf(eve) < v, "self-dealing paid");
        yes(token.trafficEmitted() < token.usedBurned(), "E < phi (V + H)");
    }

    /// A2. Swapping to and fro makes volume; nothing is paid for it, and the fee stays with the liquidity providers.
    function test_A2_wash_swaps_lose_both_fees(uint64 size) public {
        uint256 amount = 1e15 + uint256(size) % 1_000e18;
        bwt.transfer(eve, amount);
        vm.startPrank(eve);
        bwt.approve(address(pool), type(uint256).max);
        token.approve(address(pool), type(uint256).max);
        uint256 out = pool.swapExactIn(address(bwt), amount, 0, eve, block.timestamp);
        pool.swapExactIn(address(token), out, 0, eve, block.timestamp);
        vm.stopPrank();
        uint256 left = bwt.balanceOf(eve);
        yes(left <= amount - amount * 30 / BPS, "a round trip cost less than one fee");
    }

    /// A3. Verifiers below 7 of 10 on a committee neither convict an honest relay nor clear a lying one.
    function test_A3_six_colluding_verifiers_decide_nothing() public {
        registerRelay(ID, routerKey, CLAIM, STAKE);
        uint256[] memory words = same(good(CLAIM));
        for (uint256 i = 0; i < 6; ++i) {
            words[i] = good(1);
        }
        for (uint256 k = 0; k < 4; ++k) {
            audit(ID, words);
        }
        yes(registry.relay(ID).state == StakeRegistry.State.Active, "convicted by six");
        words = same(good(CLAIM / 2));
        for (uint256 i = 0; i < 3; ++i) {
            words[i] = good(CLAIM);
        }
        audit(ID, words);
        for (uint256 i = 3; i < 6; ++i) {
            words[i] = good(CLAIM);
        }
        audit(ID, words);
        eq(proof.standing(ID).strikes, 1, "cleared by six");
    }

    /// A3. Three liars of ten move the median no further than the honest values reach.
    function test_A3_three_liars_keep_the_median_among_honest_values(uint32[7] memory spread, uint32[3] memory lies)
        public
    {
        registerRelay(ID, routerKey, CLAIM, STAKE);
        uint256[] memory words = new uint256[](10);
        uint256 low = type(uint256).max;
        uint256 high;
        for (uint256 i = 0; i < 7; ++i) {
            uint256 honest = CLAIM - 1000 + spread[i] % 2000;
            if (honest < low) low = honest;
            if (honest > high) high = honest;
            words[i] = good(uint32(honest));
        }
        for (uint256 i = 0; i < 3; ++i) {
            words[7 + i] = good(lies[i]);
        }
        audit(ID, words);
        uint256 median = proof.standing(ID).kbps;
        yes(median >= low && median <= high, "median outside the honest spread");
    }

    /// A3. A verifier that would rather say nothing than be in the minority pays for each silence.
    function test_A3_selective_silence_costs() public {
        registerRelay(ID, routerKey, CLAIM, STAKE);
        address[] memory m = assembled(ID);
        uint32 epoch = proof.currentEpoch();
        bytes32 hash = proof.commitment(m[0], ID, epoch, good(1), 0);
        vm.prank(m[0]);
        proof.commit(ID, 0, hash);
        vm.warp(epochStart() + proof.auditSeconds());
        proof.verdict(ID, epoch);
        eq(proof.verifierOf(m[0]).bond, 980e18, "silence was free");
    }

    /// A3. Who joins after a seed is known is not drawn with it.
    function test_A3_nobody_joins_a_draw_whose_seed_is_known() public {
        registerRelay(ID, routerKey, CLAIM, STAKE);
        nextEpoch();
        for (uint256 i = 0; i < 20; ++i) {
            joinVerifier(address(uint160(0xBAD00 + i)));
        }
        proof.assemble(ID);
        address[] memory m = committee(ID);
        for (uint256 i = 0; i < m.length; ++i) {
            yes(uint160(m[i]) < 0xBAD00 || uint160(m[i]) > 0xBAD00 + 20, "a late joiner sits on the committee");
        }
    }

    /// A4. Eve owns a block's worth of price just before a round is closed: 5 million BWT push it 2,500 times up.
    function test_A4_moving_the_price_before_emission_moves_no_budget() public {
        LiquidityPool other = _poolAtTarget();
        emission.enrol(ID2);
        uint32 epoch = emission.currentEpoch();
        vm.warp((block.timestamp / 1 days + 1) * 1 days + 6 hours);
        other.swapExactIn(address(bwt), 100_000e18, 0, eve, block.timestamp);
        vm.warp(block.timestamp + 12);
        yes(other.spotPrice() > 2_000 * PRICE_TARGET, "the push is large");
        emission.close(2, epoch);
        (,,, uint64 weight, uint96 budget) = emission.rounds(2, epoch);
        uint256 full = emission.budgetFor(other.spotPrice(), 1_000_000e18, weight);
        yes(full != 0 && uint256(budget) * 500 < full, "more than 0.2 % of what the spot price would mint");
    }

    function _poolAtTarget() private returns (LiquidityPool other) {
        (RegionToken second, LiquidityPool pool2) =
            factory.createRegion(2, "Second", "BW2", address(this), 1_000_000e18);
        second.approve(address(pool2), type(uint256).max);
        bwt.approve(address(pool2), type(uint256).max);
        pool2.addLiquidity(2_000e18, 1_000_000e18, 0, address(this), block.timestamp);
        bytes32 id = ID2;
        bwt.transfer(eve, STAKE);
        StakeRegistry.Registration memory r =
            StakeRegistry.Registration(id, eve, eve, 2, CLAIM, STAKE, block.timestamp + 60);
        registry.register(
            r, signRegistration(r, EVE, registry.nonces(eve)), signPermit(EVE, address(registry), STAKE, r.deadline)
        );
        for (uint256 i = 0; i < 3; ++i) {
            auditAll(id, good(CLAIM));
        }
        return pool2;
    }

    /// A5. Ten relays on one home line, or one address block, count once.
    function test_A5_many_relays_in_one_prefix_share_one_cap() public {
        uint256 sum;
        uint256 refused;
        bytes32[] memory ids = new bytes32[](4);
        for (uint256 k = 0; k < 4; ++k) {
            ids[k] = keccak256(abi.encode("sybil", k));
            registerRelay(ids[k], EVE, 2_400_000, 240e18);
            auditAll(ids[k], good(2_400_000));
        }
        for (uint256 k = 0; k < 4; ++k) {
            try emission.enrol(ids[k]) returns (uint256 weight) {
                sum += weight;
            } catch {
                ++refused;
            }
        }
        eq(sum, PREFIX_CAP_KBPS, "more than one prefix's cap");
        eq(refused, 2, "2 x 100 Mbit/s fill the cap");
    }

    /// A5. A stake covers one claim: what is not staked for is not paid for.
    function test_A5_capacity_above_the_stake_does_not_count() public {
        registerRelay(ID, EVE, CLAIM, 10e18);
        for (uint256 i = 0; i < 24; ++i) {
            auditAll(ID, good(CLAIM));
        }
        uint256 state = vm.snapshotState();
        eq(emission.enrol(ID), CLAIM, "10 BWT stand for 100 Mbit/s");
        vm.revertToState(state);
        // After a slash that leaves 2 BWT, 20 Mbit/s count.
        vm.prank(address(proof));
        registry.slash(ID, 8e18, address(this), 0);
        eq(emission.enrol(ID), 2e18 * 1000 / STAKE_PER_MBPS, "what is left of the stake");
    }

    /// A6. A gateway that writes itself into the root gets no more than its depositors signed for.
    function test_A6_gateway_cannot_pay_itself_from_unspent_deposits() public {
        depositFor(gateway, buyer, 100e18);
        charge(gateway, buyerKey, 10e18);
        uint32 epoch = settlement.currentEpoch();
        vm.prank(gateway);
        vm.expectPartialRevert(Settlement.RootAboveDeposits.selector);
        settlement.postRoot(REGION, epoch, leafOf(gateway, 90e18), 90e18);
        vm.prank(gateway);
        settlement.postRoot(REGION, epoch, leafOf(gateway, 90e18), 9e18);
        vm.warp(block.timestamp + 6 hours);
        settlement.finalise(gateway, REGION);
        vm.expectPartialRevert(bytes4(keccak256("ERC20InsufficientBalance(address,uint256,uint256)")));
        settlement.claim(gateway, REGION, gateway, 90e18, new bytes32[](0));
        eq(token.balanceOf(token.depositsEscrow(gateway)), 90e18, "the buyer's unspent deposit");
    }

    /// A7. A region's owner mints no more than the bounded first liquidity.
    function test_A7_genesis_is_bounded() public {
        vm.expectRevert(
            abi.encodeWithSelector(RegionToken.GenesisTooLarge.selector, REGION_GENESIS_MAX + 1, REGION_GENESIS_MAX)
        );
        factory.createRegion(3, "Third", "BW3", address(this), REGION_GENESIS_MAX + 1);
    }
}
