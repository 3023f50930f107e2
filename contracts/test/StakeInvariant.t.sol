// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BandwidthProof} from "../src/BandwidthProof.sol";
import {BandwidthToken} from "../src/BandwidthToken.sol";
import {BWT_SUPPLY} from "../src/Parameters.sol";
import {StakeRegistry} from "../src/StakeRegistry.sol";
import {AuditBase} from "./AuditBase.sol";

/// Relays come, are audited by committees of which some seats lie, give notice, leave; verifiers equivocate. The handler
/// judges each audit itself from the votes it casts.
contract StakeHandler is AuditBase {
    uint256 internal constant RELAYS = 3;
    uint256 internal constant SEATS = 4; // half of eight verifiers; three of four decide (7 of 10, rounded up)

    enum Fate {
        Clear,
        Suspicion,
        Suspended
    }

    mapping(uint256 relay => Fate) public fate;
    mapping(uint256 relay => uint256) public goodInARow;
    mapping(uint256 relay => uint256) public suspendedAt;
    mapping(uint256 relay => uint256) public paidIn; // stake brought less stake withdrawn
    mapping(uint256 relay => uint256) public mayBeSlashed; // by convictions that the handler saw
    uint256 public bondsIn; // less bonds that were taken for proofs and silences the handler made
    uint256 public bwtBurned;
    bool public dodged; // a stake left under suspicion or suspension

    function setUp() public override {}

    function init() external {
        super.setUp();
        joinVerifiers(8);
        bondsIn = 8_000e18;
        register(0);
        register(1);
        nextEpoch();
        nextEpoch();
    }

    function deployed() external view returns (BandwidthToken, StakeRegistry, BandwidthProof) {
        return (bwt, registry, proof);
    }

    function relayId(uint256 i) public pure returns (bytes32) {
        return keccak256(abi.encode("relay", i % RELAYS));
    }

    function register(uint256 i) public {
        i %= RELAYS;
        registerRelay(relayId(i), 0x7000 + i, CLAIM, STAKE);
        paidIn[i] += STAKE;
    }

    function addStake(uint256 i, uint256 amount) external {
        i %= RELAYS;
        amount = 1 + amount % 10e18;
        bwt.approve(address(registry), amount);
        registry.addStake(relayId(i), address(this), amount, block.timestamp, "", "");
        paidIn[i] += amount;
    }

    function unstake(uint256 i) external {
        vm.prank(vm.addr(0x7000 + i % RELAYS));
        registry.unstake(relayId(i), block.timestamp, "");
    }

    function withdraw(uint256 i) external {
        i %= RELAYS;
        uint256 before = bwt.balanceOf(vm.addr(0x7000 + i));
        registry.withdraw(relayId(i));
        paidIn[i] -= bwt.balanceOf(vm.addr(0x7000 + i)) - before;
        if (fate[i] == Fate.Suspended) dodged = true;
        if (fate[i] == Fate.Suspicion && block.timestamp < suspendedAt[i]) dodged = true;
    }

    /// One audit: `liars` seats vote against the truth, `silent` of the others commit and keep silent.
    function judge(uint256 i, bool honestRelay, uint256 liars, uint256 silent) external {
        i %= RELAYS;
        liars %= SEATS + 1;
        silent %= SEATS + 1 - liars;
        bytes32 id = relayId(i);
        address[] memory members = assembled(id);
        uint32 epoch = proof.currentEpoch();
        uint256[] memory words = new uint256[](SEATS);
        uint256 goods;
        for (uint256 k = 0; k < SEATS; ++k) {
            bool votesGood = k < liars ? !honestRelay : honestRelay;
            words[k] = good(votesGood ? CLAIM : CLAIM / 2);
            bytes32 hash = proof.commitment(members[k], id, epoch, words[k], 0);
            vm.prank(members[k]);
            proof.commit(id, k, hash);
            if (k < SEATS - silent && votesGood) ++goods;
        }
        vm.warp(epochStart() + proof.commitSeconds());
        for (uint256 k = 0; k < SEATS - silent; ++k) {
            vm.prank(members[k]);
            proof.reveal(id, k, words[k], 0);
        }
        vm.warp(epochStart() + proof.commitSeconds() + proof.revealSeconds());
        uint256 supply = bwt.totalSupply();
        uint32 rate = registry.relay(id).rateKbps;
        proof.verdict(id, epoch);
        bondsIn -= supply - bwt.totalSupply();
        bwtBurned += supply - bwt.totalSupply();
        // A claim that a conviction has brought down is not slow at half of the old one.
        uint256 bads = SEATS - silent - goods;
        if (CLAIM / 2 * 10 >= uint256(rate) * 9) (goods, bads) = (goods + bads, 0);
        _note(i, goods >= 3, bads >= 3);
    }

    function _note(uint256 i, bool isGood, bool isBad) private {
        if (isGood && fate[i] == Fate.Suspicion) fate[i] = Fate.Clear;
        if (isGood && fate[i] == Fate.Suspended && ++goodInARow[i] == 2) fate[i] = Fate.Clear;
        if (!isBad) return;
        if (fate[i] == Fate.Suspended) {
            goodInARow[i] = 0;
        } else if (fate[i] == Fate.Clear) {
            fate[i] = Fate.Suspicion;
            // Until then the stake must not leave.
            suspendedAt[i] = block.timestamp + 2 * proof.auditSeconds() + proof.disputeSeconds();
        } else {
            (fate[i], goodInARow[i], suspendedAt[i]) = (Fate.Suspended, 0, block.timestamp);
            mayBeSlashed[i] += registry.relay(relayId(i)).stake;
        }
    }

    function conclude(uint256 i) external {
        i %= RELAYS;
        uint256 supply = bwt.totalSupply();
        proof.conclude(relayId(i));
        bwtBurned += supply - bwt.totalSupply();
        fate[i] = Fate.Clear;
    }

    function equivocate(uint256 v) external {
        v %= 8;
        bytes32 kind = proof.REPORT_TYPEHASH();
        bytes32 domain = proof.domainSeparator();
        bytes memory a =
            signWith(verifierKey(v), digest(domain, keccak256(abi.encode(kind, ID, uint32(1), uint256(1)))));
        bytes memory b =
            signWith(verifierKey(v), digest(domain, keccak256(abi.encode(kind, ID, uint32(1), uint256(2)))));
        uint256 supply = bwt.totalSupply();
        uint256 bond = proof.verifierOf(vm.addr(verifierKey(v))).bond;
        proof.proveEquivocation(vm.addr(verifierKey(v)), ID, 1, 1, a, 2, b, 0);
        bwtBurned += supply - bwt.totalSupply();
        bondsIn -= bond;
        // Another verifier takes the seat's place, or there would soon be no committees.
        address next = vm.addr(verifierKey(100 + bondsIn % 1000 + block.timestamp % 1000));
        joinVerifier(next);
        bondsIn += 1_000e18;
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + time % 12 days);
        height += 10;
    }
}

contract StakeInvariant is AuditBase {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    StakeHandler private handler;

    function setUp() public override {
        handler = new StakeHandler();
        handler.init();
        (bwt, registry, proof) = handler.deployed();
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory s = new bytes4[](10);
        (s[0], s[1], s[2]) =
        (StakeHandler.register.selector, StakeHandler.addStake.selector, StakeHandler.unstake.selector);
        (s[3], s[4], s[5]) = (StakeHandler.withdraw.selector, StakeHandler.judge.selector, StakeHandler.judge.selector);
        (s[6], s[7], s[8]) =
        (StakeHandler.conclude.selector, StakeHandler.equivocate.selector, StakeHandler.pass.selector);
        s[9] = StakeHandler.judge.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), s);
    }

    function targetContracts() public view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(handler);
    }

    /// One campaign for all of them; a failure names what broke.
    function invariant_all() public view {
        registry_holds_all_stakes();
        proof_holds_all_bonds();
        nobody_is_slashed_without_a_verdict();
        nobody_is_suspended_without_two_verdicts();
        unbonding_cannot_dodge_a_verdict();
        bwt_supply_falls_only_by_slashes();
    }

    function registry_holds_all_stakes() private view {
        uint256 sum;
        for (uint256 i = 0; i < 3; ++i) {
            sum += registry.relay(handler.relayId(i)).stake;
        }
        eq(bwt.balanceOf(address(registry)), sum, "stakes");
    }

    function proof_holds_all_bonds() private view {
        eq(bwt.balanceOf(address(proof)), handler.bondsIn(), "bonds");
    }

    function nobody_is_slashed_without_a_verdict() private view {
        for (uint256 i = 0; i < 3; ++i) {
            uint256 stake = registry.relay(handler.relayId(i)).stake;
            uint256 lost = handler.paidIn(i) - stake;
            yes(lost <= handler.mayBeSlashed(i) / 5, "slashed without conviction");
            if (handler.fate(i) != StakeHandler.Fate.Suspended) continue;
            yes(
                registry.relay(handler.relayId(i)).state == StakeRegistry.State.Suspended, "convicted and not suspended"
            );
        }
    }

    function nobody_is_suspended_without_two_verdicts() private view {
        for (uint256 i = 0; i < 3; ++i) {
            if (registry.relay(handler.relayId(i)).state != StakeRegistry.State.Suspended) continue;
            yes(handler.fate(i) == StakeHandler.Fate.Suspended, "suspended without conviction");
        }
    }

    function unbonding_cannot_dodge_a_verdict() private view {
        yes(!handler.dodged(), "a stake left before its verdict");
    }

    function bwt_supply_falls_only_by_slashes() private view {
        eq(bwt.totalSupply() + handler.bwtBurned(), BWT_SUPPLY, "BWT supply");
    }
}
