// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {GatewayBonds} from "../src/GatewayBonds.sol";
import {Ledgers} from "../src/Ledgers.sol";
import {Merkle} from "../src/Merkle.sol";
import {RegionToken} from "../src/RegionToken.sol";
import {Settlement} from "../src/Settlement.sol";
import {Base} from "./Base.sol";

contract SettlementTest is Base {
    address private constant ALICE = address(0xA11);
    address private constant BOB = address(0xB0B0);

    function setUp() public override {
        super.setUp();
        bondGateway(gatewayKey);
    }

    function _post(address gateway_, bytes32 root, uint256 total) private {
        uint32 epoch = settlement.currentEpoch();
        vm.prank(gateway_);
        settlement.postRoot(REGION, epoch, root, total);
    }

    function _spend(address gateway_, uint256 cumulative) private {
        charge(gateway_, buyerKey, cumulative);
    }

    function _next() private {
        vm.warp(block.timestamp + 6 hours);
    }

    function test_deposit_post_claim_pays_in_the_regions_token_and_burns_phi() public {
        depositFor(gateway, buyer, 100e18);
        _spend(gateway, 100e18);
        (bytes32 root, bytes32[] memory pa, bytes32[] memory pb) = twoLeaves(ALICE, 60e18, BOB, 30e18);
        _post(gateway, root, 90e18);
        vm.expectRevert(Ledgers.InvalidProof.selector);
        settlement.claim(gateway, REGION, ALICE, 60e18, pa);
        _next();
        uint256 supply = token.totalSupply();
        settlement.claim(gateway, REGION, ALICE, 60e18, pa);
        settlement.claim(gateway, REGION, BOB, 30e18, pb);
        eq(token.balanceOf(ALICE), 60e18, "Alice");
        eq(token.balanceOf(BOB), 30e18, "Bob");
        eq(supply - token.totalSupply(), 10e18, "burned phi of 100");
        eq(token.balanceOf(token.depositsEscrow(gateway)), 0, "deposits left");
        eq(token.balanceOf(token.earningsEscrow(gateway)), 0, "earnings left");
        vm.expectRevert(abi.encodeWithSelector(Settlement.NothingToClaim.selector, ALICE));
        settlement.claim(gateway, REGION, ALICE, 60e18, pa);
    }

    function test_only_the_current_root_counts_and_pays_the_difference() public {
        depositFor(gateway, buyer, 100e18);
        _spend(gateway, 100e18);
        (bytes32 root, bytes32[] memory pa,) = twoLeaves(ALICE, 10e18, BOB, 10e18);
        _post(gateway, root, 20e18);
        _next();
        settlement.claim(gateway, REGION, ALICE, 10e18, pa);
        (bytes32 root2, bytes32[] memory pa2, bytes32[] memory pb2) = twoLeaves(ALICE, 25e18, BOB, 15e18);
        _post(gateway, root2, 40e18);
        _next();
        vm.expectRevert(Ledgers.InvalidProof.selector);
        settlement.claim(gateway, REGION, BOB, 10e18, pa);
        address[] memory who = new address[](3);
        uint256[] memory sums = new uint256[](3);
        bytes32[][] memory proofs = new bytes32[][](3);
        (who[0], who[1], who[2]) = (ALICE, BOB, ALICE);
        (sums[0], sums[1], sums[2]) = (25e18, 15e18, 25e18);
        (proofs[0], proofs[1], proofs[2]) = (pa2, pb2, pa2);
        settlement.claimMany(gateway, REGION, who, sums, proofs);
        eq(token.balanceOf(ALICE), 25e18, "Alice");
        eq(token.balanceOf(BOB), 15e18, "Bob");
    }

    function test_exact_proof_passes_and_one_wei_more_reverts() public {
        depositFor(gateway, buyer, 100e18);
        _spend(gateway, 100e18);
        (bytes32 root, bytes32[] memory pa,) = twoLeaves(ALICE, 60e18, BOB, 30e18);
        _post(gateway, root, 90e18);
        _next();
        vm.expectRevert(Ledgers.InvalidProof.selector);
        settlement.claim(gateway, REGION, ALICE, 60e18 + 1, pa);
        vm.expectRevert(Ledgers.InvalidProof.selector);
        settlement.claim(gateway, REGION, BOB, 60e18, pa);
        settlement.claim(gateway, REGION, ALICE, 60e18, pa);
    }

    function test_root_is_capped_by_deposits_to_the_wei() public {
        depositFor(gateway, buyer, 100e18);
        _spend(gateway, 100e18);
        uint32 epoch = settlement.currentEpoch();
        vm.prank(gateway);
        vm.expectRevert(abi.encodeWithSelector(Settlement.RootAboveDeposits.selector, 100e18 + 2, 100e18));
        settlement.postRoot(REGION, epoch, keccak256("r"), 90e18 + 1);
        vm.prank(gateway);
        settlement.postRoot(REGION, epoch, keccak256("r"), 90e18);
    }

    function test_total_smaller_than_the_leaves_cannot_drain_deposits() public {
        depositFor(gateway, buyer, 100e18);
        _spend(gateway, 100e18);
        (bytes32 root, bytes32[] memory pa, bytes32[] memory pb) = twoLeaves(ALICE, 10e18, BOB, 80e18);
        _post(gateway, root, 10e18);
        _next();
        settlement.claim(gateway, REGION, ALICE, 10e18, pa);
        vm.expectPartialRevert(bytes4(keccak256("ERC20InsufficientBalance(address,uint256,uint256)")));
        settlement.claim(gateway, REGION, BOB, 80e18, pb);
    }

    function test_a_gateway_reaches_no_other_gateways_deposits() public {
        address other = bondGateway(0xD00D);
        depositFor(gateway, buyer, 100e18);
        _spend(gateway, 100e18);
        depositFor(other, buyer, 1e18);
        _spend(other, 1e18);
        bytes32 root = leafOf(ALICE, 50e18);
        uint32 epoch = settlement.currentEpoch();
        vm.prank(other);
        vm.expectPartialRevert(Settlement.RootAboveDeposits.selector);
        settlement.postRoot(REGION, epoch, root, 50e18);
        vm.prank(other);
        settlement.postRoot(REGION, epoch, root, 0.9e18);
        _next();
        vm.expectPartialRevert(bytes4(keccak256("ERC20InsufficientBalance(address,uint256,uint256)")));
        settlement.claim(other, REGION, ALICE, 50e18, new bytes32[](0));
        eq(token.balanceOf(token.depositsEscrow(gateway)), 100e18, "the first gateway's deposits");
    }

    function test_epochs_only_go_forward_and_not_into_the_future() public {
        depositFor(gateway, buyer, 100e18);
        _spend(gateway, 100e18);
        uint32 now_ = settlement.currentEpoch();
        vm.startPrank(gateway);
        vm.expectRevert(abi.encodeWithSelector(Settlement.EpochNotBegun.selector, now_ + 1, now_));
        settlement.postRoot(REGION, now_ + 1, keccak256("r"), 1e18);
        settlement.postRoot(REGION, now_, keccak256("r"), 1e18);
        vm.expectRevert(abi.encodeWithSelector(Settlement.RootPending.selector, block.timestamp + 6 hours));
        settlement.postRoot(REGION, now_, keccak256("r"), 1e18);
        _next();
        vm.expectRevert(abi.encodeWithSelector(Settlement.EpochOutOfOrder.selector, now_, now_));
        settlement.postRoot(REGION, now_, keccak256("r"), 1e18);
        uint32 later = settlement.currentEpoch();
        vm.expectRevert(abi.encodeWithSelector(Settlement.TotalBelowLast.selector, 1e18 - 1, 1e18));
        settlement.postRoot(REGION, later, keccak256("r"), 1e18 - 1);
        settlement.postRoot(REGION, later, keccak256("r"), 1e18);
        vm.stopPrank();
    }

    function test_unbonded_gateway_takes_no_deposit_and_posts_no_root() public {
        address stranger = vm.addr(0xD00D);
        uint32 epoch = settlement.currentEpoch();
        vm.prank(stranger);
        vm.expectPartialRevert(GatewayBonds.NotBonded.selector);
        settlement.postRoot(REGION, epoch, keccak256("r"), 0);
        vm.expectPartialRevert(GatewayBonds.NotBonded.selector);
        settlement.deposit(stranger, REGION, buyer, 1e18);
        vm.prank(gateway);
        settlement.giveNotice();
        vm.expectPartialRevert(GatewayBonds.NotBonded.selector);
        settlement.deposit(gateway, REGION, buyer, 1e18);
        vm.prank(gateway);
        vm.expectPartialRevert(GatewayBonds.BondStillLocked.selector);
        settlement.takeBond();
        vm.warp(block.timestamp + 21 days);
        vm.prank(gateway);
        settlement.takeBond();
        eq(bwt.balanceOf(gateway), 10_000e18, "bond back");
    }

    function test_unspent_deposit_comes_back_after_notice_less_vouchers() public {
        depositFor(gateway, buyer, 100e18);
        vm.startPrank(buyer);
        vm.expectRevert(abi.encodeWithSelector(Settlement.DepositTooSmall.selector, 100e18 + 1, 100e18));
        settlement.requestWithdrawal(gateway, REGION, 100e18 + 1);
        settlement.requestWithdrawal(gateway, REGION, 100e18);
        vm.expectPartialRevert(Settlement.WithdrawalNotDue.selector);
        settlement.withdraw(gateway, REGION);
        vm.stopPrank();

        (address[] memory who, uint256[] memory sums, bytes[] memory vouchers) =
            (new address[](1), new uint256[](1), new bytes[](1));
        (who[0], sums[0]) = (buyer, 30e18);
        bytes32 content = keccak256(abi.encode(settlement.SPEND_TYPEHASH(), gateway, REGION, buyer, 30e18));
        vouchers[0] = signWith(gatewayKey, digest(settlement.domainSeparator(), content));
        vm.prank(gateway);
        vm.expectRevert(abi.encodeWithSelector(Settlement.WrongVoucher.selector, buyer));
        settlement.charge(REGION, who, sums, vouchers);
        vouchers[0] = signWith(buyerKey, digest(settlement.domainSeparator(), content));
        vm.prank(gateway);
        settlement.charge(REGION, who, sums, vouchers);

        vm.warp(block.timestamp + 12 hours);
        vm.prank(buyer);
        settlement.withdraw(gateway, REGION);
        eq(token.balanceOf(buyer), 70e18, "unspent");
        eq(token.balanceOf(token.depositsEscrow(gateway)), 30e18, "spent stays for the root");
    }

    function test_root_without_vouchers_takes_nothing_from_depositors() public {
        depositFor(gateway, buyer, 100e18);
        uint32 epoch = settlement.currentEpoch();
        vm.prank(gateway);
        vm.expectRevert(abi.encodeWithSelector(Settlement.RootAboveDeposits.selector, 2, 0));
        settlement.postRoot(REGION, epoch, keccak256("r"), 1);
        _spend(gateway, 40e18);
        (bytes32 root, bytes32[] memory pa,) = twoLeaves(ALICE, 30e18, BOB, 6e18);
        _post(gateway, root, 36e18);
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(Settlement.DepositTooSmall.selector, 60e18 + 1, 60e18));
        settlement.requestWithdrawal(gateway, REGION, 60e18 + 1);
        vm.prank(buyer);
        settlement.requestWithdrawal(gateway, REGION, 60e18);
        vm.warp(block.timestamp + 12 hours);
        vm.prank(buyer);
        settlement.withdraw(gateway, REGION);
        settlement.claim(gateway, REGION, ALICE, 30e18, pa);
        eq(token.balanceOf(buyer), 60e18, "unspent");
        eq(token.balanceOf(token.earningsEscrow(gateway)), 6e18, "Bob's");
        eq(token.balanceOf(token.depositsEscrow(gateway)), 0, "nothing left over");
    }

    function test_region_token_obeys_only_settlement_and_emission() public {
        vm.expectRevert(RegionToken.NotSettlement.selector);
        token.pay(gateway, address(this), 1);
        vm.expectRevert(RegionToken.NotSettlement.selector);
        token.settle(gateway, 1, 0);
        vm.expectRevert(RegionToken.NotSettlement.selector);
        token.release(gateway, address(this), 1);
        vm.expectRevert(RegionToken.NotEmission.selector);
        token.emitCapacity(address(this), 1);
        vm.expectRevert(RegionToken.NotEmission.selector);
        token.emitTraffic(address(this), 1);
    }

    function test_zero_amounts_unknown_regions_and_unequal_lists_have_their_own_errors() public {
        vm.expectRevert(Settlement.ZeroAmount.selector);
        settlement.deposit(gateway, REGION, buyer, 0);
        vm.expectRevert(Settlement.ZeroAmount.selector);
        settlement.requestWithdrawal(gateway, REGION, 0);
        vm.expectRevert(Settlement.NoWithdrawal.selector);
        settlement.withdraw(gateway, REGION);
        vm.expectRevert(abi.encodeWithSelector(Settlement.UnknownRegion.selector, 9));
        settlement.deposit(gateway, 9, buyer, 1);
        uint32 epoch = settlement.currentEpoch();
        vm.prank(gateway);
        vm.expectRevert(abi.encodeWithSelector(Settlement.UnknownRegion.selector, 9));
        settlement.postRoot(9, epoch, keccak256("r"), 0);
        vm.expectRevert(Settlement.LengthMismatch.selector);
        settlement.claimMany(gateway, REGION, new address[](2), new uint256[](1), new bytes32[][](2));
        vm.expectRevert(Settlement.LengthMismatch.selector);
        settlement.charge(REGION, new address[](1), new uint256[](1), new bytes[](0));
        vm.expectRevert(GatewayBonds.ZeroBond.selector);
        settlement.bond(0, 0, block.timestamp, "");
    }

    function test_mint_keys() public {
        vm.startPrank(gateway);
        settlement.registerMintKey(bytes8("key00001"), keccak256("pub"), REGION, 64, 5, uint64(block.timestamp + 1));
        vm.expectRevert(abi.encodeWithSelector(GatewayBonds.MintKeyExists.selector, bytes8("key00001")));
        settlement.registerMintKey(bytes8("key00001"), keccak256("pub2"), REGION, 64, 5, uint64(block.timestamp + 1));
        vm.expectRevert(abi.encodeWithSelector(GatewayBonds.MintKeyUnits.selector, 65));
        settlement.registerMintKey(bytes8("key00002"), keccak256("pub2"), REGION, 65, 5, uint64(block.timestamp + 1));
        vm.stopPrank();
        eq(settlement.mintKey(gateway, bytes8("key00001")).units, 64, "units");
    }

    // --- challenges -------------------------------------------------------------------------------------------

    address private constant WATCHER = address(0x3A7C);

    function _receipt(uint256 key, uint32 epoch, uint256 cumulative) private view returns (bytes memory) {
        bytes32 kind = settlement.RECEIPT_TYPEHASH();
        bytes32 content = keccak256(abi.encode(kind, vm.addr(key), REGION, ALICE, epoch, cumulative));
        return signWith(key, digest(settlement.domainSeparator(), content));
    }

    function _pendingRoot() private returns (bytes32[] memory proofAlice, uint32 epoch) {
        depositFor(gateway, buyer, 100e18);
        _spend(gateway, 100e18);
        bytes32 root;
        (root, proofAlice,) = twoLeaves(ALICE, 40e18, BOB, 30e18);
        epoch = settlement.currentEpoch();
        _post(gateway, root, 70e18);
        bwt.transfer(WATCHER, 200e18);
        vm.prank(WATCHER);
        bwt.approve(address(settlement), type(uint256).max);
    }

    function test_root_below_a_receipt_costs_the_gateway_its_bond() public {
        (, uint32 epoch) = _pendingRoot();
        bytes memory receipt = _receipt(gatewayKey, epoch, 40e18 + 1);
        vm.prank(WATCHER);
        settlement.challenge(gateway, REGION, ALICE, epoch, 40e18 + 1, receipt);
        uint256 deadline = block.timestamp + 6 hours;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(Ledgers.ResponseStillOpen.selector, deadline));
        settlement.convict(gateway, REGION, ALICE);
        vm.expectPartialRevert(Settlement.RootPending.selector);
        settlement.finalise(gateway, REGION);
        vm.warp(deadline + 1);
        uint256 supply = bwt.totalSupply();
        settlement.convict(gateway, REGION, ALICE);
        eq(bwt.balanceOf(WATCHER), 200e18 + 1_000e18, "bond back and the finder's share");
        eq(supply - bwt.totalSupply(), 9_000e18, "the rest is burned");
        yes(!settlement.isBonded(gateway), "no gateway any more");
        eq(settlement.ledger(gateway, REGION).claimableAt, 0, "root void");
        vm.expectRevert(abi.encodeWithSelector(Ledgers.NoChallenge.selector, ALICE));
        settlement.convict(gateway, REGION, ALICE);
    }

    function test_honest_gateway_answers_and_keeps_the_challengers_bond() public {
        (bytes32[] memory proof, uint32 epoch) = _pendingRoot();
        bytes memory receipt = _receipt(gatewayKey, epoch, 40e18);
        vm.startPrank(WATCHER);
        settlement.challenge(gateway, REGION, ALICE, epoch, 40e18, receipt);
        vm.expectRevert(abi.encodeWithSelector(Ledgers.ChallengeOpen.selector, ALICE));
        settlement.challenge(gateway, REGION, ALICE, epoch, 40e18, receipt);
        vm.stopPrank();
        _next();
        vm.expectRevert(Ledgers.InvalidProof.selector);
        settlement.claim(gateway, REGION, ALICE, 40e18, proof);
        vm.expectRevert(Ledgers.InvalidProof.selector);
        settlement.answer(gateway, REGION, ALICE, 41e18, proof);
        vm.expectRevert(abi.encodeWithSelector(Ledgers.LeafBelowReceipt.selector, 39e18, 40e18));
        settlement.answer(gateway, REGION, ALICE, 39e18, proof);
        settlement.answer(gateway, REGION, ALICE, 40e18, proof);
        eq(bwt.balanceOf(gateway), 100e18, "the challenger's bond");
        settlement.claim(gateway, REGION, ALICE, 40e18, proof);
        eq(token.balanceOf(ALICE), 40e18, "claimed after the answer");
    }

    function test_receipts_that_prove_nothing_are_refused() public {
        (, uint32 epoch) = _pendingRoot();
        vm.startPrank(WATCHER);
        bytes memory later = _receipt(gatewayKey, epoch + 1, 50e18);
        vm.expectRevert(abi.encodeWithSelector(Ledgers.ReceiptForLaterEpoch.selector, epoch + 1, epoch));
        settlement.challenge(gateway, REGION, ALICE, epoch + 1, 50e18, later);
        vm.expectRevert(abi.encodeWithSelector(Ledgers.WrongReceipt.selector, gateway));
        settlement.challenge(gateway, REGION, ALICE, epoch, 50e18, later);
        bytes memory forged = _receipt(buyerKey, epoch, 50e18);
        vm.expectRevert(abi.encodeWithSelector(Ledgers.WrongReceipt.selector, gateway));
        settlement.challenge(gateway, REGION, ALICE, epoch, 50e18, forged);
        bytes memory good = _receipt(gatewayKey, epoch, 50e18);
        vm.chainId(5);
        vm.expectRevert(abi.encodeWithSelector(Ledgers.WrongReceipt.selector, gateway));
        settlement.challenge(gateway, REGION, ALICE, epoch, 50e18, good);
        vm.chainId(31337);
        vm.warp(block.timestamp + 6 hours);
        vm.expectRevert(Ledgers.NoPendingRoot.selector);
        settlement.challenge(gateway, REGION, ALICE, epoch, 50e18, good);
        vm.stopPrank();
    }

    function test_challenge_stranded_by_another_conviction_is_refunded() public {
        (, uint32 epoch) = _pendingRoot();
        bytes32 kind = settlement.RECEIPT_TYPEHASH();
        bytes32 content = keccak256(abi.encode(kind, gateway, REGION, BOB, epoch, uint256(31e18)));
        bytes memory forBob = signWith(gatewayKey, digest(settlement.domainSeparator(), content));
        bytes memory forAlice = _receipt(gatewayKey, epoch, 41e18);
        vm.startPrank(WATCHER);
        settlement.challenge(gateway, REGION, ALICE, epoch, 41e18, forAlice);
        settlement.challenge(gateway, REGION, BOB, epoch, 31e18, forBob);
        vm.expectRevert(abi.encodeWithSelector(Ledgers.NoChallenge.selector, BOB));
        settlement.refundChallenge(gateway, REGION, BOB);
        vm.stopPrank();
        vm.warp(block.timestamp + 6 hours + 1);
        settlement.convict(gateway, REGION, ALICE);
        settlement.refundChallenge(gateway, REGION, BOB);
        eq(bwt.balanceOf(WATCHER), 200e18 + 1_000e18, "both bonds and the share");
    }

    function test_proof_walk_is_openzeppelins(bytes32[] calldata siblings, bytes32 node) public pure {
        yes(Merkle.root(siblings, node) == MerkleProof.processProofCalldata(siblings, node), "another root");
    }

    function test_leaf_is_openzeppelins() public pure {
        // The first value of @openzeppelin/merkle-tree's README.
        bytes32 leaf = Merkle.leaf(0x1111111111111111111111111111111111111111, 5000000000000000000);
        yes(leaf == 0xeb02c421cfa48976e66dfb29120745909ea3a0f843456c263cf8f1253483e283, "leaf");
    }
}
