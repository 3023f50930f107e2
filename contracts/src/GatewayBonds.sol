// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {BandwidthToken} from "./BandwidthToken.sol";
import {GATEWAY_BOND, Parameters} from "./Parameters.sol";
import {Permits} from "./Permits.sol";

/// @title Bonds and mint keys of gateways; the part of `Settlement` that knows no region's money.
/// @notice Any account becomes a gateway by its bond. The account signs receipts and posts roots itself.
abstract contract GatewayBonds is EIP712 {
    error NotBonded(address gateway, uint256 bond, uint256 least);
    error ZeroBond();
    error BondLeaving(uint256 unlockAt);
    error BondStillLocked(uint256 unlockAt);
    error MintKeyExists(bytes8 keyId);
    error MintKeyExpired(uint64 expires);
    error MintKeyUnits(uint16 units);
    error UnknownMintKey(bytes8 keyId);

    struct Gateway {
        uint128 bond; // BWT wei
        uint40 unlockAt; // notice given: unix seconds when the bond may leave; zero: none
        bytes32 key; // Ed25519 key under which it signs descriptors and receipts off chain
    }

    struct MintKey {
        bytes32 publicKey; // ristretto255 element of the VOPRF
        uint16 region;
        uint16 units; // of 64 KiB that one ticket holds
        uint32 epoch;
        uint64 expires; // unix seconds
    }

    event GatewayBonded(address indexed gateway, bytes32 key, uint256 bond);
    event GatewayLeaving(address indexed gateway, uint256 unlockAt);
    event GatewayLeft(address indexed gateway, uint256 bond);
    event MintKeyRegistered(
        address indexed gateway,
        bytes8 indexed keyId,
        uint16 indexed region,
        uint32 epoch,
        bytes32 publicKey,
        uint16 units,
        uint64 expires
    );

    BandwidthToken public immutable bwt;
    uint256 public immutable unbonding;

    mapping(address gateway => Gateway) internal _gateways;
    mapping(address gateway => mapping(bytes8 keyId => MintKey)) internal _mintKeys;

    constructor(Parameters parameters, BandwidthToken bwt_) EIP712("bwrouter Settlement", "1") {
        bwt = bwt_;
        unbonding = parameters.unbonding();
    }

    function gatewayOf(address gateway) external view returns (Gateway memory) {
        return _gateways[gateway];
    }

    function mintKey(address gateway, bytes8 keyId) external view returns (MintKey memory) {
        return _mintKeys[gateway][keyId];
    }

    function isBonded(address gateway) public view returns (bool) {
        Gateway storage g = _gateways[gateway];
        return g.bond >= GATEWAY_BOND && g.unlockAt == 0;
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// Adds `amount` BWT of the caller to its bond and sets its Ed25519 key; zero amount only changes the key.
    /// @param permitSignature ERC-2612 permit of `amount` to this contract, 65 bytes r, s, v; empty: an allowance exists
    function bond(bytes32 key, uint256 amount, uint256 deadline, bytes calldata permitSignature) external {
        Gateway storage g = _gateways[msg.sender];
        if (g.unlockAt != 0) revert BondLeaving(g.unlockAt);
        uint256 total = g.bond + amount;
        if (total == 0) revert ZeroBond();
        (g.bond, g.key) = (uint128(total), key);
        emit GatewayBonded(msg.sender, key, total);
        if (amount != 0) Permits.pull(bwt, msg.sender, address(this), amount, deadline, permitSignature);
    }

    /// Gives notice: from now on no deposit, root or mint key is accepted for the caller.
    function giveNotice() external {
        Gateway storage g = _gateways[msg.sender];
        if (g.bond == 0) revert ZeroBond();
        if (g.unlockAt != 0) revert BondLeaving(g.unlockAt);
        uint256 unlockAt = block.timestamp + unbonding;
        g.unlockAt = uint40(unlockAt);
        emit GatewayLeaving(msg.sender, unlockAt);
    }

    /// Pays the bond back after the notice.
    function takeBond() external {
        Gateway storage g = _gateways[msg.sender];
        if (g.unlockAt == 0 || block.timestamp < g.unlockAt) revert BondStillLocked(g.unlockAt);
        uint256 amount = g.bond;
        (g.bond, g.unlockAt) = (0, 0);
        emit GatewayLeft(msg.sender, amount);
        bwt.transfer(msg.sender, amount);
    }

    /// Publishes the key under which the caller signs tickets of `units` in `region` during `epoch`.
    function registerMintKey(bytes8 keyId, bytes32 publicKey, uint16 region, uint16 units, uint32 epoch, uint64 expires)
        external
    {
        _requireBonded(msg.sender);
        if (_mintKeys[msg.sender][keyId].publicKey != 0) revert MintKeyExists(keyId);
        if (publicKey == 0 || keyId == 0) revert UnknownMintKey(keyId);
        if (expires <= block.timestamp) revert MintKeyExpired(expires);
        if (units != 64 && units != 1024) revert MintKeyUnits(units);
        _mintKeys[msg.sender][keyId] = MintKey(publicKey, region, units, epoch, expires);
        emit MintKeyRegistered(msg.sender, keyId, region, epoch, publicKey, units, expires);
    }

    function _requireBonded(address gateway) internal view {
        if (!isBonded(gateway)) revert NotBonded(gateway, _gateways[gateway].bond, GATEWAY_BOND);
    }
}
