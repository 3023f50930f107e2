// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title Proofs of OpenZeppelin's StandardMerkleTree over ["address", "uint256"].
/// @notice The walk is OpenZeppelin's MerkleProof.processProofCalldata (sorted pairs) written out, at a quarter of its gas;
/// a test holds the two equal.
library Merkle {
    /// keccak256(keccak256(abi.encode(account, cumulative)))
    function leaf(address account, uint256 cumulative) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            mstore(0, shr(96, shl(96, account)))
            mstore(32, cumulative)
            mstore(0, keccak256(0, 64))
            result := keccak256(0, 32)
        }
    }

    /// The root that `node` and its siblings, from the bottom up, lead to.
    function root(bytes32[] calldata siblings, bytes32 node) internal pure returns (bytes32 result) {
        if (siblings.length == 0) return node;
        assembly ("memory-safe") {
            let at := siblings.offset
            let end := add(at, shl(5, siblings.length))
            for {} 1 {} {
                // The smaller of the two goes first; both lie in the scratch space.
                let place := shl(5, gt(node, calldataload(at)))
                mstore(place, node)
                mstore(xor(place, 32), calldataload(at))
                node := keccak256(0, 64)
                at := add(at, 32)
                if iszero(lt(at, end)) { break }
            }
            result := node
        }
    }
}
