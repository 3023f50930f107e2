// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BandwidthProof} from "../src/BandwidthProof.sol";
import {StakeRegistry} from "../src/StakeRegistry.sol";
import {Verifiers} from "../src/Verifiers.sol";
import {AuditBase} from "./AuditBase.sol";

contract ProofTest is AuditBase {
    BandwidthProof.Reason private constant GOOD = BandwidthProof.Reason.Good;
    BandwidthProof.Reason private constant SLOW = BandwidthProof.Reason.Slow;
    BandwidthProof.Reason private constant UNREACHABLE = BandwidthProof.Reason.Unreachable;
    BandwidthProof.Reason private constant BUSY = BandwidthProof.Reason.Busy;
    BandwidthProof.Reason private constant CORRUPT = BandwidthProof.Reason.Corrupt;
    BandwidthProof.Reason private constant INCONCLUSIVE = BandwidthProof.Reason.Inconclusive;

    function setUp() public override {
        super.setUp();
        registerRelay(ID, routerKey, CLAIM, STAKE);
        joinVerifiers(VERIFIERS);
        nextEpoch();
        nextEpoch();
    }

    function _state() private view returns (StakeRegistry.State) {
        return registry.relay(ID).state;
    }

    function _expect(BandwidthProof.Reason got, BandwidthProof.Reason wanted) private pure {
        eq(uint256(got), uint256(wanted), "verdict");
    }

    // --- the draw ---------------------------------------------------------------------------------------------

    function test_committee_has_ten_different_active_seats_and_follows_the_seed() public {
        address[] memory a = assembled(ID);
        eq(a.length, 10, "size");
        for (uint256 i = 0; i < 10; ++i) {
            for (uint256 j = 0; j < i; ++j) {
                yes(a[i] != a[j], "twice on one committee");
            }
        }
        uint256 first = proof.committeeOf(ID, proof.currentEpoch());
        vm.expectPartialRevert(BandwidthProof.CommitteeExists.selector);
        proof.assemble(ID);
        assembled(ID);
        yes(proof.committeeOf(ID, proof.currentEpoch()) != first, "another epoch, another committee");
    }

    function test_seed_is_the_randao_of_the_first_block_and_of_no_other() public {
        (bytes memory before, bytes memory first) = nextEpochHeaders(bytes32(uint256(7)));
        uint32 epoch = proof.currentEpoch();
        bytes memory forged = header(height - 1, epochStart(), bytes32(uint256(8)));
        vm.expectRevert(Verifiers.HeaderNotOfThisChain.selector);
        proof.setSeed(before, forged);
        vm.expectRevert(abi.encodeWithSelector(Verifiers.HeadersNotAtEpochStart.selector, epoch));
        proof.setSeed(first, first);
        vm.expectRevert(abi.encodeWithSelector(Verifiers.SeedUnknown.selector, epoch));
        proof.assemble(ID);
        proof.setSeed(before, first);
        yes(proof.seedOf(epoch) == keccak256(abi.encode(epoch, bytes32(uint256(7)))), "seed");
        vm.expectRevert(abi.encodeWithSelector(Verifiers.SeedKnown.selector, epoch));
        proof.setSeed(before, first);
    }

    function test_seed_of_a_later_block_is_refused() public {
        uint256 start = epochStart() + proof.auditSeconds();
        bytes memory a = header(height + 1, start, 0);
        bytes memory b = header(height + 2, start + 12, bytes32(uint256(1)));
        vm.roll(height + 3);
        vm.setBlockhash(height + 1, keccak256(a));
        vm.setBlockhash(height + 2, keccak256(b));
        vm.warp(start + 20);
        vm.expectPartialRevert(Verifiers.HeadersNotAtEpochStart.selector);
        proof.setSeed(a, b);
    }

    function test_newcomers_and_leavers_count_from_the_epoch_after_the_next() public {
        eq(proof.activeVerifiers(), VERIFIERS, "active");
        address late = address(0x1A7E);
        joinVerifier(late);
        vm.prank(vm.addr(verifierKey(0)));
        proof.giveNotice();
        eq(proof.activeVerifiers(), VERIFIERS, "not yet");
        nextEpoch();
        eq(proof.activeVerifiers(), VERIFIERS, "not yet");
        nextEpoch();
        eq(proof.activeVerifiers(), VERIFIERS, "one in, one out");
        uint256 seen;
        for (uint256 i = 0; i < 12; ++i) {
            address[] memory members = assembled(ID);
            for (uint256 j = 0; j < members.length; ++j) {
                yes(members[j] != vm.addr(verifierKey(0)), "a leaver was drawn");
                if (members[j] == late) ++seen;
            }
        }
        yes(seen != 0, "the newcomer is never drawn");
        vm.expectPartialRevert(Verifiers.BondStillLocked.selector);
        vm.prank(vm.addr(verifierKey(0)));
        proof.takeBond();
        vm.warp(block.timestamp + 21 days);
        vm.prank(vm.addr(verifierKey(0)));
        proof.takeBond();
        eq(bwt.balanceOf(vm.addr(verifierKey(0))), 1_000e18, "bond back");
        joinVerifier(address(0x1A7F));
        eq(proof.verifierOf(address(0x1A7F)).seat, 1, "the seat is used again");
    }

    function test_small_sets_have_small_committees_and_too_small_ones_none() public {
        for (uint256 i = 0; i < VERIFIERS - 6; ++i) {
            vm.prank(vm.addr(verifierKey(i)));
            proof.giveNotice();
        }
        nextEpoch();
        eq(assembled(ID).length, 3, "half of six");
        vm.prank(vm.addr(verifierKey(VERIFIERS - 1)));
        proof.giveNotice();
        nextEpoch();
        nextEpoch();
        vm.expectRevert(abi.encodeWithSelector(Verifiers.TooFewVerifiers.selector, 5));
        proof.assemble(ID);
    }

    // --- commit and reveal ------------------------------------------------------------------------------------

    function test_commit_and_reveal_have_their_windows_and_their_errors() public {
        address[] memory m = assembled(ID);
        uint32 epoch = proof.currentEpoch();
        uint256 word = good(CLAIM);
        bytes32 hash = proof.commitment(m[0], ID, epoch, word, bytes32("salt"));
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.NotOnCommittee.selector, address(this)));
        proof.commit(ID, 0, hash);
        vm.startPrank(m[0]);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.NotOnCommittee.selector, m[0]));
        proof.commit(ID, 1, hash);
        proof.commit(ID, 0, hash);
        vm.expectRevert(BandwidthProof.AlreadyCommitted.selector);
        proof.commit(ID, 0, hash);
        uint256 from = epochStart() + proof.commitSeconds();
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.RevealNotOpen.selector, from));
        proof.reveal(ID, 0, word, bytes32("salt"));
        vm.warp(from);
        vm.expectRevert(BandwidthProof.WrongReveal.selector);
        proof.reveal(ID, 0, word + 1, bytes32("salt"));
        vm.stopPrank();
        vm.prank(m[1]);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.CommitOver.selector, from));
        proof.commit(ID, 1, hash);
        vm.prank(m[1]);
        vm.expectRevert(BandwidthProof.NotCommitted.selector);
        proof.reveal(ID, 1, word, bytes32("salt"));
        // Another's commitment is of no use: it names its maker.
        vm.prank(m[1]);
        vm.expectRevert(BandwidthProof.WrongReveal.selector);
        proof.reveal(ID, 0, word, bytes32("salt"));
        vm.startPrank(m[0]);
        proof.reveal(ID, 0, word, bytes32("salt"));
        vm.expectRevert(BandwidthProof.AlreadyRevealed.selector);
        proof.reveal(ID, 0, word, bytes32("salt"));
        vm.stopPrank();
        uint256 due = from + proof.revealSeconds();
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.VerdictNotDue.selector, due));
        proof.verdict(ID, epoch);
        vm.warp(due);
        vm.prank(m[0]);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.LateReveal.selector, due));
        proof.reveal(ID, 0, word, bytes32("salt"));
        _expect(proof.verdict(ID, epoch), INCONCLUSIVE);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.VerdictOutOfOrder.selector, epoch, epoch));
        proof.verdict(ID, epoch);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.VerdictNotDue.selector, due + proof.auditSeconds()));
        proof.verdict(ID, epoch + 1);
    }

    function test_a_proof_for_another_epoch_or_an_unknown_reason_is_refused() public {
        address[] memory m = assembled(ID);
        uint256 word = good(CLAIM);
        bytes32 stale = proof.commitment(m[0], ID, proof.currentEpoch() - 1, word, 0);
        uint256 odd = word | uint256(7) << 64;
        bytes32 unknown = proof.commitment(m[1], ID, proof.currentEpoch(), odd, 0);
        vm.prank(m[0]);
        proof.commit(ID, 0, stale);
        vm.prank(m[1]);
        proof.commit(ID, 1, unknown);
        vm.warp(epochStart() + proof.commitSeconds());
        vm.prank(m[0]);
        vm.expectRevert(BandwidthProof.WrongReveal.selector);
        proof.reveal(ID, 0, word, 0);
        vm.prank(m[1]);
        vm.expectPartialRevert(BandwidthProof.BadReason.selector);
        proof.reveal(ID, 1, odd, 0);
    }

    function test_silence_after_a_commit_costs_and_does_not_stop_the_median() public {
        address[] memory m = assembled(ID);
        uint32 epoch = proof.currentEpoch();
        for (uint256 i = 0; i < 10; ++i) {
            bytes32 hash = proof.commitment(m[i], ID, epoch, good(uint32(CLAIM + i)), 0);
            vm.prank(m[i]);
            proof.commit(ID, i, hash);
        }
        vm.warp(epochStart() + proof.commitSeconds());
        for (uint256 i = 0; i < 7; ++i) {
            uint256 word = good(uint32(CLAIM + i));
            vm.prank(m[i]);
            proof.reveal(ID, i, word, 0);
        }
        vm.warp(epochStart() + proof.commitSeconds() + proof.revealSeconds());
        _expect(proof.verdict(ID, epoch), GOOD);
        eq(proof.standing(ID).kbps, CLAIM + 3, "median of seven");
        eq(proof.verifierOf(m[9]).bond, 980e18, "silence");
        eq(proof.verifierOf(m[0]).bond, 1_000e18, "revealed");
    }

    // --- verdicts ---------------------------------------------------------------------------------------------

    function test_seven_of_ten_in_two_disjoint_draws_suspend_and_six_do_not() public {
        uint256[] memory words = same(good(CLAIM * 8 / 10));
        (words[0], words[1], words[2], words[3]) = (good(CLAIM), good(CLAIM), good(CLAIM), good(CLAIM));
        _expect(audit(ID, words), INCONCLUSIVE);
        eq(proof.standing(ID).strikes, 0, "six of ten");
        words[3] = words[9];
        address[] memory first = assembled(ID);
        _expect(auditBy(ID, first, words), SLOW);
        eq(proof.standing(ID).strikes, 1, "suspicion");
        yes(_state() == StakeRegistry.State.Active, "one draw does not suspend");
        address[] memory second = assembled(ID);
        for (uint256 i = 0; i < 10; ++i) {
            for (uint256 j = 0; j < 10; ++j) {
                yes(first[i] != second[j], "draws share a seat");
            }
        }
        _expect(auditBy(ID, second, words), SLOW);
        yes(_state() == StakeRegistry.State.Suspended, "suspended");
        eq(registry.relay(ID).stake, STAKE, "not slashed yet");
    }

    function test_second_verdict_by_a_committee_that_shares_a_seat_does_not_suspend() public {
        // Two committees drawn before the first verdict is given may share seats; the verdicts come late.
        uint256 word = good(CLAIM / 2);
        uint32[3] memory epochs;
        for (uint256 k = 0; k < 3; ++k) {
            address[] memory m = assembled(ID);
            epochs[k] = proof.currentEpoch();
            for (uint256 i = 0; i < 10; ++i) {
                bytes32 hash = proof.commitment(m[i], ID, epochs[k], word, 0);
                vm.prank(m[i]);
                proof.commit(ID, i, hash);
            }
            vm.warp(epochStart() + proof.commitSeconds());
            for (uint256 i = 0; i < 10; ++i) {
                vm.prank(m[i]);
                proof.reveal(ID, i, word, 0);
            }
        }
        vm.warp(block.timestamp + 1 hours);
        bool shared;
        for (uint256 k = 1; k < 3; ++k) {
            for (uint256 a = proof.committeeOf(ID, epochs[0]); a != 0; a >>= 16) {
                for (uint256 b = proof.committeeOf(ID, epochs[k]); b != 0; b >>= 16) {
                    if (a & 0xffff == b & 0xffff) shared = true;
                }
            }
            yes(shared, "the case is there");
        }
        for (uint256 k = 0; k < 3; ++k) {
            proof.verdict(ID, epochs[k]);
        }
        eq(proof.standing(ID).strikes, 1, "still only suspicion");
        yes(_state() == StakeRegistry.State.Active, "not suspended");
    }

    function test_good_verdict_clears_suspicion() public {
        auditAll(ID, good(CLAIM / 2));
        auditAll(ID, good(CLAIM));
        eq(proof.standing(ID).strikes, 0, "cleared");
        auditAll(ID, good(CLAIM / 2));
        yes(_state() == StakeRegistry.State.Active, "two adverse verdicts, not in a row");
    }

    function test_claim_is_slow_below_ninety_percent_whatever_the_report_calls_it() public {
        _expect(auditAll(ID, good(CLAIM * 9 / 10)), GOOD);
        _expect(auditAll(ID, good(CLAIM * 9 / 10 - 1)), SLOW);
        _expect(auditAll(ID, report(CLAIM, SLOW)), GOOD);
    }

    function test_slash_comes_after_the_dispute_window_only_and_lowers_the_claim() public {
        _suspendSlow();
        uint256 until = block.timestamp + 7 days;
        vm.warp(until - 1);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.DisputeStillOpen.selector, until));
        proof.conclude(ID);
        vm.warp(until);
        vm.prank(buyer);
        proof.conclude(ID);
        eq(registry.relay(ID).stake, 80e18, "a fifth");
        eq(bwt.balanceOf(buyer), 2e18, "finder's share");
        eq(registry.relay(ID).rateKbps, CLAIM / 2, "claim is what was measured");
        yes(_state() == StakeRegistry.State.Active, "suspension over");
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.NotSuspended.selector, ID));
        proof.conclude(ID);
    }

    function test_two_good_verdicts_in_the_window_acquit() public {
        _suspendSlow();
        auditAll(ID, good(CLAIM));
        yes(_state() == StakeRegistry.State.Suspended, "one is not enough");
        auditAll(ID, good(CLAIM / 2));
        auditAll(ID, good(CLAIM));
        yes(_state() == StakeRegistry.State.Suspended, "not in a row");
        auditAll(ID, good(CLAIM));
        yes(_state() == StakeRegistry.State.Active, "acquitted");
        vm.warp(block.timestamp + 30 days);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.NotSuspended.selector, ID));
        proof.conclude(ID);
        eq(registry.relay(ID).stake, STAKE, "whole stake");
    }

    function test_corrupt_keystream_takes_the_whole_stake() public {
        auditAll(ID, report(CLAIM, CORRUPT));
        auditAll(ID, report(CLAIM, CORRUPT));
        vm.warp(block.timestamp + 7 days);
        proof.conclude(ID);
        eq(registry.relay(ID).stake, 0, "all of it");
    }

    function test_busy_household_is_excused_within_its_credit_and_never_slashed() public {
        for (uint256 i = 0; i < 36; ++i) {
            _expect(auditAll(ID, report(0, BUSY)), BUSY);
            eq(proof.standing(ID).strikes, 0, "excused");
        }
        // 36 h used, 36 epochs' refill of 5 % of an hour is not enough for another one and then is.
        auditAll(ID, report(0, BUSY));
        eq(proof.standing(ID).strikes, 0, "36 hours and the refill of 36 hours");
        auditAll(ID, report(0, UNREACHABLE));
        eq(proof.standing(ID).strikes, 1, "credit is used up");
        auditAll(ID, report(0, UNREACHABLE));
        yes(_state() == StakeRegistry.State.Suspended, "suspended");
        vm.warp(block.timestamp + 7 days);
        proof.conclude(ID);
        eq(registry.relay(ID).stake, STAKE, "absence is no fraud");
        yes(_state() == StakeRegistry.State.Active, "lifted");
        vm.warp(block.timestamp + 23 days);
        eq(proof.creditUsed(ID), 0, "thirty days later the credit is full");
    }

    function test_score_and_capacity_grow_with_good_audits_only() public {
        auditAll(ID, good(CLAIM * 2));
        BandwidthProof.Standing memory s = proof.standing(ID);
        eq(s.score, 312, "1/32 of the way");
        eq(s.capacity, CLAIM, "never more than the claim");
        eq(s.prefix4, PREFIX4, "prefix");
        eq(s.prefix6, PREFIX6, "prefix");
        auditAll(ID, good(CLAIM / 2));
        s = proof.standing(ID);
        eq(s.score, 312 - 39, "an eighth down");
        eq(s.capacity, CLAIM, "no capacity for an adverse verdict");
        auditAll(ID, report(0, BUSY));
        eq(proof.standing(ID).score, s.score, "an excused epoch leaves the score");
    }

    // --- unbonding --------------------------------------------------------------------------------------------

    function test_unbonding_cannot_dodge_a_verdict() public {
        vm.prank(router);
        registry.unstake(ID, block.timestamp, "");
        uint256 unlockAt = registry.relay(ID).unlockAt;
        vm.warp(unlockAt - 90 minutes);
        auditAll(ID, good(CLAIM / 2));
        // Suspicion a moment before the stake would be free holds it until a second draw can be judged.
        vm.warp(unlockAt);
        vm.expectPartialRevert(StakeRegistry.StillBonded.selector);
        registry.withdraw(ID);
        auditAll(ID, good(CLAIM / 2));
        yes(_state() == StakeRegistry.State.Suspended, "suspended");
        vm.warp(block.timestamp + 60 days);
        vm.expectPartialRevert(StakeRegistry.WrongState.selector);
        registry.withdraw(ID);
        proof.conclude(ID);
        registry.withdraw(ID);
        eq(bwt.balanceOf(router), 80e18, "the stake less the slash");
    }

    function test_audits_of_a_relay_that_left_are_refused() public {
        vm.prank(router);
        registry.unstake(ID, block.timestamp, "");
        vm.warp(block.timestamp + 21 days);
        registry.withdraw(ID);
        nextEpoch();
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.RelayNotStaked.selector, ID));
        proof.assemble(ID);
    }

    // --- equivocation -----------------------------------------------------------------------------------------

    function _sign(uint256 key, uint32 epoch, uint256 word) private view returns (bytes memory) {
        bytes32 content = keccak256(abi.encode(proof.REPORT_TYPEHASH(), ID, epoch, word));
        return signWith(key, digest(proof.domainSeparator(), content));
    }

    function test_two_signed_reports_on_one_audit_cost_the_whole_bond_at_once() public {
        (uint256 a, uint256 b, address v) = (good(CLAIM), good(CLAIM / 2), vm.addr(verifierKey(3)));
        (bytes memory sa, bytes memory sb) = (_sign(verifierKey(3), 9, a), _sign(verifierKey(3), 9, b));
        vm.expectRevert(BandwidthProof.NotEquivocal.selector);
        proof.proveEquivocation(v, ID, 9, a, sa, a, sa, 0);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.WrongSigner.selector, v));
        proof.proveEquivocation(v, ID, 10, a, sa, b, sb, 0);
        uint256 supply = bwt.totalSupply();
        vm.prank(buyer);
        proof.proveEquivocation(v, ID, 9, a, sa, b, sb, 0);
        eq(proof.verifierOf(v).bond, 0, "bond");
        eq(bwt.balanceOf(buyer), 100e18, "finder's share");
        eq(supply - bwt.totalSupply(), 900e18, "burned");
        vm.expectRevert(abi.encodeWithSelector(Verifiers.NotVerifier.selector, v));
        proof.proveEquivocation(v, ID, 9, a, sa, b, sb, 0);
        nextEpoch();
        nextEpoch();
        eq(proof.activeVerifiers(), VERIFIERS - 1, "out of the draw");
    }

    function test_signed_report_that_differs_from_the_reveal_is_equivocation() public {
        address[] memory m = assembled(ID);
        uint32 epoch = proof.currentEpoch();
        auditBy(ID, m, same(good(CLAIM / 2)));
        uint256 key;
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            if (vm.addr(verifierKey(i)) == m[4]) key = verifierKey(i);
        }
        bytes memory told = _sign(key, epoch, good(CLAIM));
        uint256 revealed = good(CLAIM / 2);
        (uint256 other, uint256 signed) = (good(1), good(CLAIM));
        vm.expectRevert(BandwidthProof.NotEquivocal.selector);
        proof.proveEquivocation(m[4], ID, epoch, signed, told, other, "", 4);
        vm.expectRevert(abi.encodeWithSelector(BandwidthProof.NotOnCommittee.selector, m[4]));
        proof.proveEquivocation(m[4], ID, epoch, signed, told, revealed, "", 5);
        proof.proveEquivocation(m[4], ID, epoch, signed, told, revealed, "", 4);
        eq(proof.verifierOf(m[4]).bond, 0, "bond");
    }

    function _suspendSlow() private {
        auditAll(ID, good(CLAIM / 2));
        auditAll(ID, good(CLAIM / 2));
        yes(_state() == StakeRegistry.State.Suspended, "suspended");
    }
}
