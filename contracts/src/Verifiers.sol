// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BlockHeader} from "@openzeppelin/contracts/utils/BlockHeader.sol";
import {Memory} from "@openzeppelin/contracts/utils/Memory.sol";
import {BandwidthToken} from "./BandwidthToken.sol";
import {COMMITTEE, COMMITTEE_MIN, Parameters, VERIFIER_BOND} from "./Parameters.sol";
import {Permits} from "./Permits.sol";

/// @title Bonds of verifiers and the draw of committees; the part of `BandwidthProof` that knows no audits.
/// @notice The seed of an audit epoch is the RANDAO mix in the first block of the epoch, shown by two consecutive headers:
/// nobody chooses which block that is. A proposer can only withhold its own block just before: one more try for each
/// slot it has in a row, so an event of probability p becomes at most p(1-s)/(1-2s) for a share s < 1/2 of the chain's stake.
abstract contract Verifiers {
    error AlreadyVerifier(address verifier);
    error NotVerifier(address verifier);
    error NoticeGiven(uint256 unlockAt);
    error BondStillLocked(uint256 unlockAt);
    error SeedKnown(uint32 epoch);
    error SeedUnknown(uint32 epoch);
    error HeaderNotOfThisChain();
    error HeadersNotAtEpochStart(uint32 epoch);
    error TooFewVerifiers(uint256 active);
    error DrawFailed();

    struct Verifier {
        uint128 bond; // BWT wei
        uint40 unlockAt; // notice given: when the bond may leave; zero: none
        uint32 from; // first audit epoch in which it can be drawn
        uint32 until; // first audit epoch in which it no longer can
        uint16 seat; // index in the draw, from 1; zero: none
    }

    /// Verifiers in the draw: now, and how the number changes in the next two epochs (joining and leaving take two).
    struct Count {
        uint32 epoch;
        uint32 active;
        int32 next;
        int32 afterNext;
    }

    event VerifierJoined(address indexed verifier, uint256 seat, uint32 from);
    event VerifierLeaving(address indexed verifier, uint32 until, uint256 unlockAt);
    event VerifierLeft(address indexed verifier, uint256 bond);
    event VerifierSlashed(address indexed verifier, uint256 burned, address indexed finder, uint256 share);
    event SeedSet(uint32 indexed epoch, bytes32 seed, uint256 blockNumber);

    BandwidthToken public immutable bwt;
    uint256 public immutable auditSeconds;
    uint256 private immutable _notice;

    mapping(address => Verifier) internal _verifiers;
    address[] internal _seats; // seat n is at index n - 1
    uint16[] private _freeSeats;
    mapping(uint32 epoch => bytes32) public seedOf;
    Count private _count;

    constructor(Parameters parameters, BandwidthToken bwt_) {
        bwt = bwt_;
        auditSeconds = parameters.auditEpoch();
        _notice = parameters.unbonding();
        _count.epoch = currentEpoch();
    }

    function currentEpoch() public view returns (uint32) {
        return uint32(block.timestamp / auditSeconds);
    }

    function verifierOf(address verifier) external view returns (Verifier memory) {
        return _verifiers[verifier];
    }

    /// Verifiers in the draw of the current epoch.
    function activeVerifiers() public view returns (uint256) {
        return _counted().active;
    }

    function seats() external view returns (address[] memory) {
        return _seats;
    }

    /// Bonds the caller as a verifier. It can be drawn from the epoch after the next, whose seed nobody knows yet.
    /// @param permitSignature ERC-2612 permit of VERIFIER_BOND to this contract, 65 bytes r, s, v; empty: an allowance exists
    function join(uint256 deadline, bytes calldata permitSignature) external {
        Verifier storage v = _verifiers[msg.sender];
        if (v.seat != 0) revert AlreadyVerifier(msg.sender);
        uint16 seat;
        if (_freeSeats.length != 0) {
            seat = _freeSeats[_freeSeats.length - 1];
            _freeSeats.pop();
            _seats[seat - 1] = msg.sender;
        } else {
            _seats.push(msg.sender);
            if (_seats.length > type(uint16).max) revert DrawFailed();
            seat = uint16(_seats.length);
        }
        uint32 from = currentEpoch() + 2;
        _verifiers[msg.sender] = Verifier(uint128(VERIFIER_BOND), 0, from, type(uint32).max, seat);
        _advance();
        ++_count.afterNext;
        emit VerifierJoined(msg.sender, seat, from);
        Permits.pull(bwt, msg.sender, address(this), VERIFIER_BOND, deadline, permitSignature);
    }

    /// Gives notice: out of the draw from the epoch after the next, bond free after the unbonding time.
    function giveNotice() external {
        Verifier storage v = _verifiers[msg.sender];
        if (v.seat == 0) revert NotVerifier(msg.sender);
        if (v.unlockAt != 0) revert NoticeGiven(v.unlockAt);
        v.unlockAt = uint40(block.timestamp + _notice);
        _endTerm(v);
        emit VerifierLeaving(msg.sender, v.until, v.unlockAt);
    }

    /// Pays out what is left of the bond after the notice.
    function takeBond() external {
        Verifier memory v = _verifiers[msg.sender];
        if (v.unlockAt == 0 || block.timestamp < v.unlockAt) revert BondStillLocked(v.unlockAt);
        delete _verifiers[msg.sender];
        _freeSeats.push(v.seat);
        emit VerifierLeft(msg.sender, v.bond);
        if (v.bond != 0) bwt.transfer(msg.sender, v.bond);
    }

    /// Sets the seed of the current epoch: the RANDAO mix of its first block.
    /// @param before RLP header of the last block before the epoch; first: of the block after it
    function setSeed(bytes calldata before, bytes calldata first) external {
        uint32 epoch = currentEpoch();
        if (seedOf[epoch] != 0) revert SeedKnown(epoch);
        Memory.Slice[] memory a = BlockHeader.parseHeader(before);
        Memory.Slice[] memory b = BlockHeader.parseHeader(first);
        if (!BlockHeader.verifyBlockHeader(a, keccak256(before)) || !BlockHeader.verifyBlockHeader(b, keccak256(first)))
        {
            revert HeaderNotOfThisChain();
        }
        uint256 start = uint256(epoch) * auditSeconds;
        uint256 number = BlockHeader.getNumber(b);
        if (
            BlockHeader.getNumber(a) + 1 != number || BlockHeader.getTimestamp(a) >= start
                || BlockHeader.getTimestamp(b) < start
        ) revert HeadersNotAtEpochStart(epoch);
        bytes32 seed = keccak256(abi.encode(epoch, BlockHeader.getPrevRandao(b)));
        seedOf[epoch] = seed;
        _advance();
        emit SeedSet(epoch, seed, number);
    }

    /// Draws the seats of a committee without repetition from those active in `epoch`, passing over `excluded`.
    /// @return packed seats, 16 bits each from the low end; their number follows from the number of active verifiers
    function _draw(bytes32 relayId, uint32 epoch, uint256 excluded)
        internal
        view
        returns (uint256 packed, uint256 size)
    {
        bytes32 seed = seedOf[epoch];
        if (seed == 0) revert SeedUnknown(epoch);
        uint256 active = activeVerifiers();
        size = active / 2 < COMMITTEE ? active / 2 : COMMITTEE;
        if (size < COMMITTEE_MIN) revert TooFewVerifiers(active);
        uint256 count = _seats.length;
        uint256 taken;
        for (uint256 i = 0; taken < size; ++i) {
            if (i == 1000) revert DrawFailed();
            uint256 seat = uint256(keccak256(abi.encode(seed, relayId, i))) % count + 1;
            if (_contains(packed, seat) || _contains(excluded, seat)) continue;
            Verifier storage v = _verifiers[_seats[seat - 1]];
            if (v.from > epoch || v.until <= epoch || v.seat != seat) continue;
            packed |= seat << (16 * taken++);
        }
    }

    function _contains(uint256 packed, uint256 seat) internal pure returns (bool) {
        for (; packed != 0; packed >>= 16) {
            if (packed & 0xffff == seat) return true;
        }
        return false;
    }

    /// Takes `amount` of a bond, whether the verifier is leaving or not, and ends its term if too little is left.
    function _slashVerifier(address verifier, uint256 amount, address finder, uint256 share) internal {
        Verifier storage v = _verifiers[verifier];
        if (amount > v.bond) amount = v.bond;
        if (share > amount) share = amount;
        v.bond -= uint128(amount);
        if (v.bond < VERIFIER_BOND / 2) _endTerm(v);
        emit VerifierSlashed(verifier, amount - share, finder, share);
        bwt.burn(amount - share);
        if (share != 0) bwt.transfer(finder, share);
    }

    function _endTerm(Verifier storage v) private {
        if (v.until != type(uint32).max) return;
        v.until = currentEpoch() + 2;
        _advance();
        --_count.afterNext;
    }

    function _advance() private {
        _count = _counted();
    }

    function _counted() private view returns (Count memory c) {
        c = _count;
        uint256 passed = currentEpoch() - c.epoch;
        if (passed == 0) return c;
        int256 active = int256(uint256(c.active)) + c.next;
        if (passed > 1) active += c.afterNext;
        (c.epoch, c.active) = (currentEpoch(), uint32(uint256(active)));
        (c.next, c.afterNext) = (passed == 1 ? c.afterNext : int32(0), 0);
    }
}
