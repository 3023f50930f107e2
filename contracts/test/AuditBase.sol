// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RLP} from "@openzeppelin/contracts/utils/RLP.sol";
import {BandwidthProof} from "../src/BandwidthProof.sol";
import {Base} from "./Base.sol";

/// Verifiers, epochs with real header checks, and whole audits.
abstract contract AuditBase is Base {
    using RLP for RLP.Encoder;

    bytes32 internal constant ID = keccak256("relay");
    uint32 internal constant CLAIM = 40_000;
    uint256 internal constant STAKE = 100e18;
    uint256 internal constant VERIFIERS = 30;
    uint24 internal constant PREFIX4 = 0xC61200;
    uint48 internal constant PREFIX6 = 0x200100020001;

    uint256 internal height = 1000;

    function verifierKey(uint256 i) internal pure returns (uint256) {
        return 0xF00D0000 + i;
    }

    function joinVerifiers(uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            joinVerifier(vm.addr(verifierKey(i)));
        }
    }

    function joinVerifier(address who) internal {
        bwt.transfer(who, 1_000e18);
        vm.startPrank(who);
        bwt.approve(address(proof), 1_000e18);
        proof.join(block.timestamp, "");
        vm.stopPrank();
    }

    // --- epochs -----------------------------------------------------------------------------------------------

    function header(uint256 number, uint256 time, bytes32 randao) internal pure returns (bytes memory) {
        RLP.Encoder memory list = RLP.encoder();
        for (uint256 i = 0; i < 3; ++i) {
            list.push(keccak256(abi.encode(i)));
        }
        for (uint256 i = 0; i < 3; ++i) {
            list.push(keccak256(abi.encode(i)));
        }
        list.push(new bytes(256)).push(uint256(0)).push(number).push(uint256(30_000_000)).push(uint256(21_000));
        list.push(time).push(bytes("")).push(randao).push(new bytes(8));
        return list.encode();
    }

    function epochStart() internal view returns (uint256) {
        return proof.currentEpoch() * proof.auditSeconds();
    }

    /// Goes to the start of the next epoch, with the two headers around it in the chain's history.
    function nextEpochHeaders(bytes32 randao) internal returns (bytes memory before, bytes memory first) {
        uint256 start = epochStart() + proof.auditSeconds();
        before = header(height + 1, start - 1, keccak256("the block before"));
        first = header(height + 2, start, randao);
        vm.roll(height + 3);
        vm.setBlockhash(height + 1, keccak256(before));
        vm.setBlockhash(height + 2, keccak256(first));
        height += 3;
        vm.warp(start + 1);
    }

    function nextEpoch() internal {
        (bytes memory before, bytes memory first) = nextEpochHeaders(keccak256(abi.encode("randao", height)));
        proof.setSeed(before, first);
    }

    // --- audits -----------------------------------------------------------------------------------------------

    function report(uint32 kbps, BandwidthProof.Reason reason) internal view returns (uint256) {
        return proof.pack(BandwidthProof.Report(kbps, 20, 5, reason, PREFIX4, PREFIX6));
    }

    function good(uint32 kbps) internal view returns (uint256) {
        return report(kbps, BandwidthProof.Reason.Good);
    }

    function same(uint256 word) internal pure returns (uint256[] memory words) {
        words = new uint256[](10);
        for (uint256 i = 0; i < 10; ++i) {
            words[i] = word;
        }
    }

    function committee(bytes32 relayId) internal view returns (address[] memory members) {
        uint256 packed = proof.committeeOf(relayId, proof.currentEpoch());
        address[] memory all = proof.seats();
        uint256 size;
        for (uint256 p = packed; p != 0; p >>= 16) {
            ++size;
        }
        members = new address[](size);
        for (uint256 i = 0; i < size; ++i) {
            members[i] = all[(packed >> (16 * i) & 0xffff) - 1];
        }
    }

    function assembled(bytes32 relayId) internal returns (address[] memory) {
        nextEpoch();
        proof.assemble(relayId);
        return committee(relayId);
    }

    /// One epoch's audit in which the member at place i reports words[i]; zero: it stays away.
    function audit(bytes32 relayId, uint256[] memory words) internal returns (BandwidthProof.Reason) {
        address[] memory members = assembled(relayId);
        return auditBy(relayId, members, words);
    }

    function auditBy(bytes32 relayId, address[] memory members, uint256[] memory words)
        internal
        returns (BandwidthProof.Reason)
    {
        uint32 epoch = proof.currentEpoch();
        for (uint256 i = 0; i < members.length; ++i) {
            if (words[i] == 0) continue;
            bytes32 hash = proof.commitment(members[i], relayId, epoch, words[i], bytes32(i));
            vm.prank(members[i]);
            proof.commit(relayId, i, hash);
        }
        vm.warp(epochStart() + proof.commitSeconds());
        for (uint256 i = 0; i < members.length; ++i) {
            if (words[i] == 0) continue;
            vm.prank(members[i]);
            proof.reveal(relayId, i, words[i], bytes32(i));
        }
        vm.warp(epochStart() + proof.commitSeconds() + proof.revealSeconds());
        return proof.verdict(relayId, epoch);
    }

    function auditAll(bytes32 relayId, uint256 word) internal returns (BandwidthProof.Reason) {
        return audit(relayId, same(word));
    }
}
