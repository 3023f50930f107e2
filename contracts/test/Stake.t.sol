// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {StakeRegistry} from "../src/StakeRegistry.sol";
import {Permits} from "../src/Permits.sol";
import {Parameters, Windows} from "../src/Parameters.sol";
import {Base} from "./Base.sol";

contract StakeTest is Base {
    /// The tests are the auditor.
    function deploy() internal override {
        super.deploy();
        registry = StakeRegistry(make("StakeRegistry", abi.encode(parameters, bwt, address(this))));
    }

    bytes32 private constant ID = keccak256("relay");
    uint32 private constant RATE = 40_000;
    uint256 private constant STAKE = 100e18;

    function _request(uint256 key) private view returns (StakeRegistry.Registration memory) {
        address owner = vm.addr(key);
        return StakeRegistry.Registration(ID, owner, address(0x7777), REGION, RATE, STAKE, block.timestamp + 60);
    }

    function test_router_without_gas_coin_registers_by_two_signatures() public {
        bwt.transfer(router, STAKE);
        StakeRegistry.Registration memory r = _request(routerKey);
        bytes memory permit = signPermit(routerKey, address(registry), STAKE, r.deadline);
        vm.prank(gateway);
        registry.register(r, signRegistration(r, routerKey, 0), permit);
        StakeRegistry.Relay memory relay = registry.relay(ID);
        yes(relay.owner == router && relay.payout == address(0x7777), "owner, payout");
        eq(relay.stake, STAKE, "stake");
        eq(relay.rateKbps, RATE, "rate");
        eq(relay.region, REGION, "region");
        yes(relay.state == StakeRegistry.State.Active, "active");
        eq(registry.nonces(router), 1, "nonce");
        eq(bwt.balanceOf(address(registry)), STAKE, "held");
    }

    function test_permit_that_was_submitted_before_does_no_harm() public {
        bwt.transfer(router, STAKE);
        StakeRegistry.Registration memory r = _request(routerKey);
        (uint8 v, bytes32 rr, bytes32 s) = _split(signPermit(routerKey, address(registry), STAKE, r.deadline));
        bwt.permit(router, address(registry), STAKE, r.deadline, v, rr, s);
        registry.register(r, signRegistration(r, routerKey, 0), abi.encodePacked(rr, s, v));
        eq(registry.relay(ID).stake, STAKE, "stake");
    }

    function test_wrong_signer_wrong_permit_expired_and_wrong_chain() public {
        bwt.transfer(router, STAKE);
        StakeRegistry.Registration memory r = _request(routerKey);
        bytes memory permit = signPermit(routerKey, address(registry), STAKE, r.deadline);
        bytes memory wrong = abi.encodeWithSelector(StakeRegistry.WrongSigner.selector, router);

        bytes memory sig = signRegistration(r, buyerKey, 0);
        vm.expectRevert(wrong);
        registry.register(r, sig, permit);

        sig = signRegistration(r, routerKey, 0);
        bytes memory badPermit = signPermit(routerKey, address(registry), STAKE - 1, r.deadline);
        vm.expectRevert(Permits.PermitRefused.selector);
        registry.register(r, sig, badPermit);

        vm.chainId(4242);
        vm.expectRevert(wrong);
        registry.register(r, sig, permit);
        vm.chainId(31337);

        r.payout = address(0x8888);
        vm.expectRevert(wrong);
        registry.register(r, sig, permit);
        r.payout = address(0x7777);

        vm.warp(r.deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(StakeRegistry.Expired.selector, r.deadline));
        registry.register(r, sig, permit);
        vm.warp(r.deadline);
        registry.register(r, sig, permit);
    }

    function test_replayed_signature_is_refused() public {
        registerRelay(ID, routerKey, RATE, STAKE);
        uint256 deadline = block.timestamp + 60;
        bytes32 content = keccak256(
            abi.encode(registry.SET_PAYOUT_TYPEHASH(), ID, address(0x9999), registry.nonces(router), deadline)
        );
        bytes memory sig = signWith(routerKey, digest(registry.domainSeparator(), content));
        registry.setPayout(ID, address(0x9999), deadline, sig);
        yes(registry.relay(ID).payout == address(0x9999), "payout");
        vm.expectRevert(abi.encodeWithSelector(StakeRegistry.WrongSigner.selector, router));
        registry.setPayout(ID, address(0x9999), deadline, sig);
    }

    function test_bad_fields_have_their_own_errors() public {
        StakeRegistry.Registration memory r = _request(routerKey);
        r.relayId = 0;
        vm.expectRevert(StakeRegistry.ZeroId.selector);
        registry.register(r, "", "");
        r = _request(routerKey);
        r.payout = address(0);
        vm.expectRevert(StakeRegistry.ZeroAddress.selector);
        registry.register(r, "", "");
        r = _request(routerKey);
        r.region = 0;
        vm.expectRevert(StakeRegistry.RegionZero.selector);
        registry.register(r, "", "");
        r = _request(routerKey);
        r.rateKbps = 0;
        vm.expectRevert(abi.encodeWithSelector(StakeRegistry.RateOutOfRange.selector, 0));
        registry.register(r, "", "");
        r = _request(routerKey);
        (r.rateKbps, r.stake) = (1_000_001, 100.1e18 - 1);
        vm.expectRevert(abi.encodeWithSelector(StakeRegistry.StakeTooSmall.selector, 100.1e18 - 1, 100.1e18));
        registry.register(r, "", "");
    }

    function test_unbonding_then_withdraw_pays_only_the_owner() public {
        registerRelay(ID, routerKey, RATE, STAKE);
        vm.prank(router);
        registry.unstake(ID, block.timestamp, "");
        uint256 unlockAt = block.timestamp + 21 days;
        vm.warp(unlockAt - 1);
        vm.expectRevert(abi.encodeWithSelector(StakeRegistry.StillBonded.selector, unlockAt));
        registry.withdraw(ID);
        vm.warp(unlockAt);
        registry.withdraw(ID);
        eq(bwt.balanceOf(router), STAKE, "paid back");
        vm.expectPartialRevert(StakeRegistry.WrongState.selector);
        registry.withdraw(ID);
        // The id stays its owner's.
        bwt.transfer(buyer, STAKE);
        StakeRegistry.Registration memory r = _request(buyerKey);
        bytes memory sig = signRegistration(r, buyerKey, 0);
        vm.expectRevert(abi.encodeWithSelector(StakeRegistry.OwnedByAnother.selector, ID));
        registry.register(r, sig, "");
        vm.prank(router);
        bwt.transfer(address(this), STAKE);
        registerRelay(ID, routerKey, RATE, STAKE);
    }

    function test_adding_stake_by_signature_and_by_the_caller() public {
        registerRelay(ID, routerKey, RATE, STAKE);
        bwt.transfer(router, 5e18);
        uint256 deadline = block.timestamp + 60;
        bytes32 content =
            keccak256(abi.encode(registry.ADD_STAKE_TYPEHASH(), ID, router, 5e18, registry.nonces(router), deadline));
        bytes memory sig = signWith(routerKey, digest(registry.domainSeparator(), content));
        registry.addStake(ID, router, 5e18, deadline, sig, signPermit(routerKey, address(registry), 5e18, deadline));
        eq(registry.relay(ID).stake, STAKE + 5e18, "by signature");
        bwt.approve(address(registry), 1e18);
        registry.addStake(ID, address(this), 1e18, deadline, "", "");
        eq(registry.relay(ID).stake, STAKE + 6e18, "by the caller");
        // Nobody's allowance can be used without its owner's word.
        vm.prank(router);
        bwt.approve(address(registry), 1e18);
        vm.expectRevert(abi.encodeWithSelector(StakeRegistry.WrongSigner.selector, router));
        registry.addStake(ID, router, 1e18, deadline, "", "");
    }

    function test_only_the_auditor_suspends_and_slashes() public {
        registerRelay(ID, routerKey, RATE, STAKE);
        vm.expectRevert(StakeRegistry.NotAuditor.selector);
        registry.suspend(ID);
        vm.expectRevert(StakeRegistry.NotAuditor.selector);
        registry.slash(ID, 1, address(this), 0);
        registry.setAuditor(address(this));
        vm.expectRevert(StakeRegistry.AuditorAlreadySet.selector);
        registry.setAuditor(address(1));
        registry.suspend(ID);
        uint256 supply = bwt.totalSupply();
        registry.slash(ID, 40e18, buyer, 4e18);
        eq(registry.relay(ID).stake, 60e18, "left");
        eq(bwt.balanceOf(buyer), 4e18, "finder's share");
        eq(supply - bwt.totalSupply(), 36e18, "burned");
    }

    function test_no_stake_is_added_while_suspended() public {
        registerRelay(ID, routerKey, RATE, STAKE);
        registry.setAuditor(address(this));
        registry.suspend(ID);
        bwt.approve(address(registry), 1e18);
        vm.expectPartialRevert(StakeRegistry.WrongState.selector);
        registry.addStake(ID, address(this), 1e18, block.timestamp, "", "");
    }

    function test_notice_given_while_suspended_or_before_does_not_free_the_stake() public {
        registerRelay(ID, routerKey, RATE, STAKE);
        registry.setAuditor(address(this));
        vm.prank(router);
        registry.unstake(ID, block.timestamp, "");
        registry.suspend(ID);
        vm.warp(block.timestamp + 60 days);
        vm.expectPartialRevert(StakeRegistry.WrongState.selector);
        registry.withdraw(ID);
        registry.slash(ID, 40e18, buyer, 0);
        registry.withdraw(ID);
        eq(bwt.balanceOf(router), 60e18, "what the verdict left");
    }

    function test_parameters_that_disagree_are_refused() public {
        Windows memory w = windows();
        w.unbonding = w.dispute + 2 * w.auditEpoch;
        vm.expectRevert(abi.encodeWithSelector(Parameters.WindowOutOfRange.selector, "unbonding"));
        new Parameters(w);
        w = windows();
        w.auditEpoch = w.commit + w.reveal;
        vm.expectRevert(abi.encodeWithSelector(Parameters.WindowOutOfRange.selector, "auditEpoch"));
        new Parameters(w);
    }

    function _split(bytes memory sig) private pure returns (uint8 v, bytes32 r, bytes32 s) {
        assembly {
            r := mload(add(sig, 32))
            s := mload(add(sig, 64))
            v := byte(0, mload(add(sig, 96)))
        }
    }
}
