// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {BandwidthToken} from "./BandwidthToken.sol";
import {Parameters, RATE_MAX_KBPS, STAKE_MIN, STAKE_PER_MBPS} from "./Parameters.sol";
import {Permits} from "./Permits.sol";

/// @title Stakes of relays.
/// @notice A relay is its 32-byte id (its Ed25519 key). Everything its owner decides is an EIP-712 signature that anybody
/// may bring, so a router needs no gas coin. The auditor (`BandwidthProof`, set once) suspends, reinstates and slashes.
contract StakeRegistry is EIP712, Ownable2Step {
    error Expired(uint256 deadline);
    error WrongSigner(address expected);
    error ZeroId();
    error ZeroAddress();
    error ZeroAmount();
    error RegionZero();
    error RateOutOfRange(uint32 rateKbps);
    error StakeTooSmall(uint256 stake, uint256 least);
    error StakeTooLarge(uint256 stake);
    error WrongState(bytes32 relayId, State state);
    error OwnedByAnother(bytes32 relayId);
    error StillBonded(uint256 until);
    error NotAuditor();
    error AuditorAlreadySet();

    enum State {
        None, // never registered, or left and paid out
        Active,
        Suspended, // earns no emission and is offered no tickets; the stake is held
        Unbonding // has given notice
    }

    struct Relay {
        address owner; // signs for the relay; gets the stake back
        uint96 stake; // BWT wei
        address payout; // gets what the relay earns
        uint32 rateKbps; // claimed
        uint16 region;
        State state;
        uint40 unlockAt; // unix seconds; zero: no notice given
    }

    struct Registration {
        bytes32 relayId;
        address owner;
        address payout;
        uint16 region;
        uint32 rateKbps;
        uint256 stake;
        uint256 deadline;
    }

    event Registered(
        bytes32 indexed relayId,
        address indexed owner,
        address indexed payout,
        uint16 region,
        uint32 rateKbps,
        uint256 stake
    );
    event StakeAdded(bytes32 indexed relayId, uint256 amount, uint256 stake);
    event PayoutChanged(bytes32 indexed relayId, address indexed payout);
    event RateChanged(bytes32 indexed relayId, uint32 rateKbps);
    event Unbonding(bytes32 indexed relayId, uint256 unlockAt);
    event Withdrawn(bytes32 indexed relayId, address indexed owner, uint256 amount);
    event Suspended(bytes32 indexed relayId);
    event Reinstated(bytes32 indexed relayId);
    event Slashed(bytes32 indexed relayId, uint256 burned, address indexed finder, uint256 share);
    event AuditorSet(address auditor);

    bytes32 public constant REGISTER_TYPEHASH = keccak256(
        "Register(bytes32 relayId,address owner,address payout,uint16 region,uint32 rateKbps,uint256 stake,uint256 nonce,uint256 deadline)"
    );
    bytes32 public constant ADD_STAKE_TYPEHASH =
        keccak256("AddStake(bytes32 relayId,address funder,uint256 amount,uint256 nonce,uint256 deadline)");
    bytes32 public constant SET_PAYOUT_TYPEHASH =
        keccak256("SetPayout(bytes32 relayId,address payout,uint256 nonce,uint256 deadline)");
    bytes32 public constant SET_RATE_TYPEHASH =
        keccak256("SetRate(bytes32 relayId,uint32 rateKbps,uint256 nonce,uint256 deadline)");
    bytes32 public constant UNSTAKE_TYPEHASH = keccak256("Unstake(bytes32 relayId,uint256 nonce,uint256 deadline)");

    BandwidthToken public immutable bwt;
    uint256 public immutable unbonding;
    address public auditor;

    mapping(bytes32 relayId => Relay) private _relays;
    /// Next nonce of an owner's (or funder's) EIP-712 messages to this contract.
    mapping(address signer => uint256) public nonces;

    constructor(Parameters parameters, BandwidthToken bwt_, address owner_)
        EIP712("bwrouter StakeRegistry", "1")
        Ownable(owner_)
    {
        bwt = bwt_;
        unbonding = parameters.unbonding();
    }

    // --- views ------------------------------------------------------------------------------------------------

    function relay(bytes32 relayId) external view returns (Relay memory) {
        return _relays[relayId];
    }

    /// Least stake in BWT wei for a claimed rate.
    function leastStake(uint32 rateKbps) public pure returns (uint256) {
        uint256 byRate = (uint256(rateKbps) + 999) / 1000 * STAKE_PER_MBPS;
        return byRate < STAKE_MIN ? STAKE_MIN : byRate;
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // --- the owner's decisions --------------------------------------------------------------------------------

    /// Registers a relay and takes its stake by permit. Both signatures are the owner's, 65 bytes r, s, v.
    /// @param permitSignature ERC-2612 permit of `stake` to this contract with the same deadline; empty: an allowance exists
    function register(Registration calldata r, bytes calldata signature, bytes calldata permitSignature) external {
        if (r.relayId == 0) revert ZeroId();
        if (r.payout == address(0) || r.owner == address(0)) revert ZeroAddress();
        if (r.region == 0) revert RegionZero();
        _requireStake(r.rateKbps, r.stake);
        _authorise(r.owner, r.deadline, signature, _registrationHash(r));
        Relay storage entry = _relays[r.relayId];
        if (entry.state != State.None) revert WrongState(r.relayId, entry.state);
        if (entry.owner != address(0) && entry.owner != r.owner) revert OwnedByAnother(r.relayId);
        _relays[r.relayId] = Relay(r.owner, uint96(r.stake), r.payout, r.rateKbps, r.region, State.Active, 0);
        emit Registered(r.relayId, r.owner, r.payout, r.region, r.rateKbps, r.stake);
        Permits.pull(bwt, r.owner, address(this), r.stake, r.deadline, permitSignature);
    }

    /// Adds to a relay's stake out of `funder`'s BWT. No signature is needed from the caller's own account.
    function addStake(
        bytes32 relayId,
        address funder,
        uint256 amount,
        uint256 deadline,
        bytes calldata signature,
        bytes calldata permitSignature
    ) external {
        Relay storage entry = _relays[relayId];
        // Not while suspended: what is added then would be slashed for what was before.
        if (entry.state != State.Active) revert WrongState(relayId, entry.state);
        if (amount == 0) revert ZeroAmount();
        uint256 total = entry.stake + amount;
        if (total > type(uint96).max) revert StakeTooLarge(total);
        bytes32 content = keccak256(abi.encode(ADD_STAKE_TYPEHASH, relayId, funder, amount, nonces[funder], deadline));
        _authorise(funder, deadline, signature, content);
        entry.stake = uint96(total);
        emit StakeAdded(relayId, amount, total);
        Permits.pull(bwt, funder, address(this), amount, deadline, permitSignature);
    }

    function setPayout(bytes32 relayId, address payout, uint256 deadline, bytes calldata signature) external {
        if (payout == address(0)) revert ZeroAddress();
        Relay storage entry = _requireRegistered(relayId);
        address owner_ = entry.owner;
        bytes32 content = keccak256(abi.encode(SET_PAYOUT_TYPEHASH, relayId, payout, nonces[owner_], deadline));
        _authorise(owner_, deadline, signature, content);
        entry.payout = payout;
        emit PayoutChanged(relayId, payout);
    }

    /// Changes the claimed rate; the stake must be enough for it.
    function setRate(bytes32 relayId, uint32 rateKbps, uint256 deadline, bytes calldata signature) external {
        Relay storage entry = _requireRegistered(relayId);
        if (entry.state != State.Active) revert WrongState(relayId, entry.state);
        _requireStake(rateKbps, entry.stake);
        address owner_ = entry.owner;
        bytes32 content = keccak256(abi.encode(SET_RATE_TYPEHASH, relayId, rateKbps, nonces[owner_], deadline));
        _authorise(owner_, deadline, signature, content);
        entry.rateKbps = rateKbps;
        emit RateChanged(relayId, rateKbps);
    }

    /// Gives notice. The stake stays within reach of verdicts until `withdraw`.
    function unstake(bytes32 relayId, uint256 deadline, bytes calldata signature) external {
        Relay storage entry = _requireRegistered(relayId);
        if (entry.unlockAt != 0) revert WrongState(relayId, entry.state);
        address owner_ = entry.owner;
        bytes32 content = keccak256(abi.encode(UNSTAKE_TYPEHASH, relayId, nonces[owner_], deadline));
        _authorise(owner_, deadline, signature, content);
        uint256 unlockAt = block.timestamp + unbonding;
        entry.unlockAt = uint40(unlockAt);
        if (entry.state == State.Active) entry.state = State.Unbonding;
        emit Unbonding(relayId, unlockAt);
    }

    /// Pays the whole stake to the owner once the notice has run out. Anybody may call it. A suspended relay waits for
    /// the end of its dispute.
    function withdraw(bytes32 relayId) external {
        Relay storage entry = _relays[relayId];
        if (entry.state != State.Unbonding) revert WrongState(relayId, entry.state);
        if (block.timestamp < entry.unlockAt) revert StillBonded(entry.unlockAt);
        (address owner_, uint256 amount) = (entry.owner, entry.stake);
        entry.stake = 0;
        entry.state = State.None;
        entry.unlockAt = 0;
        emit Withdrawn(relayId, owner_, amount);
        bwt.transfer(owner_, amount);
    }

    // --- the auditor ------------------------------------------------------------------------------------------

    /// Sets the auditor, once.
    function setAuditor(address auditor_) external onlyOwner {
        if (auditor != address(0)) revert AuditorAlreadySet();
        if (auditor_ == address(0)) revert ZeroAddress();
        auditor = auditor_;
        emit AuditorSet(auditor_);
    }

    modifier onlyAuditor() {
        if (msg.sender != auditor) revert NotAuditor();
        _;
    }

    function suspend(bytes32 relayId) external onlyAuditor {
        Relay storage entry = _relays[relayId];
        if (entry.state != State.Active && entry.state != State.Unbonding) revert WrongState(relayId, entry.state);
        entry.state = State.Suspended;
        emit Suspended(relayId);
    }

    /// A relay under suspicion that has given notice waits at least until `until`.
    function postpone(bytes32 relayId, uint256 until) external onlyAuditor {
        Relay storage entry = _relays[relayId];
        if (entry.unlockAt == 0 || entry.unlockAt >= until) return;
        entry.unlockAt = uint40(until);
        emit Unbonding(relayId, until);
    }

    /// Brings a claim that audits refuted down to what they measured.
    function lowerRate(bytes32 relayId, uint32 rateKbps) external onlyAuditor {
        Relay storage entry = _requireRegistered(relayId);
        if (rateKbps >= entry.rateKbps) return;
        entry.rateKbps = rateKbps == 0 ? 1 : rateKbps;
        emit RateChanged(relayId, entry.rateKbps);
    }

    function reinstate(bytes32 relayId) external onlyAuditor {
        _reinstate(relayId);
    }

    /// Burns `amount` of the stake less `share`, which goes to `finder`, and ends a suspension.
    function slash(bytes32 relayId, uint256 amount, address finder, uint256 share) external onlyAuditor {
        Relay storage entry = _requireRegistered(relayId);
        if (amount > entry.stake) amount = entry.stake;
        if (share > amount) share = amount;
        entry.stake -= uint96(amount);
        emit Slashed(relayId, amount - share, finder, share);
        if (entry.state == State.Suspended) _reinstate(relayId);
        bwt.burn(amount - share);
        if (share != 0) bwt.transfer(finder, share);
    }

    // --- inside -----------------------------------------------------------------------------------------------

    function _registrationHash(Registration calldata r) private view returns (bytes32) {
        // Two halves: all members are one word each, so the parts joined are the EIP-712 encoding.
        return keccak256(
            bytes.concat(
                abi.encode(REGISTER_TYPEHASH, r.relayId, r.owner, r.payout, r.region),
                abi.encode(r.rateKbps, r.stake, nonces[r.owner], r.deadline)
            )
        );
    }

    function _reinstate(bytes32 relayId) private {
        Relay storage entry = _relays[relayId];
        if (entry.state != State.Suspended) revert WrongState(relayId, entry.state);
        entry.state = entry.unlockAt == 0 ? State.Active : State.Unbonding;
        emit Reinstated(relayId);
    }

    function _requireRegistered(bytes32 relayId) private view returns (Relay storage entry) {
        entry = _relays[relayId];
        if (entry.state == State.None) revert WrongState(relayId, State.None);
    }

    function _requireStake(uint32 rateKbps, uint256 stake) private pure {
        if (rateKbps == 0 || rateKbps > RATE_MAX_KBPS) revert RateOutOfRange(rateKbps);
        uint256 least = leastStake(rateKbps);
        if (stake < least) revert StakeTooSmall(stake, least);
        if (stake > type(uint96).max) revert StakeTooLarge(stake);
    }

    /// The signer decides: either it calls itself, or its signature over `content` is brought by somebody else.
    function _authorise(address signer, uint256 deadline, bytes calldata signature, bytes32 content) private {
        if (block.timestamp > deadline) revert Expired(deadline);
        nonces[signer]++;
        if (msg.sender == signer && signature.length == 0) return;
        if (!SignatureChecker.isValidSignatureNowCalldata(signer, _hashTypedDataV4(content), signature)) {
            revert WrongSigner(signer);
        }
    }
}
