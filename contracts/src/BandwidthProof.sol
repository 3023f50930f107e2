// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {BandwidthToken} from "./BandwidthToken.sol";
import {
    ACQUITTALS,
    BPS,
    DOWNTIME_CREDIT,
    DOWNTIME_PERIOD,
    FINDER_BPS,
    Parameters,
    SCORE_FALL,
    SCORE_RISE,
    SILENCE_PENALTY,
    SLASH_CORRUPT_BPS,
    SLASH_SLOW_BPS,
    SLOW_BPS,
    VERDICT_BPS,
    VERIFIER_BOND
} from "./Parameters.sol";
import {StakeRegistry} from "./StakeRegistry.sol";
import {Verifiers} from "./Verifiers.sol";

/// @title Audits of relays: commit, reveal, verdict; suspension, acquittal, slash.
/// @notice In each audit epoch a committee drawn for a relay commits to its reports, reveals them, and the verdict is the
/// reason on which 7 of 10 seats agree. An adverse verdict puts the relay under suspicion; a second one by a committee
/// that shares no seat with the first suspends it. Two good verdicts in a row acquit it; after the dispute window
/// `conclude` slashes it. Seats that vote gain nothing from a conviction.
contract BandwidthProof is Verifiers, EIP712 {
    error RelayNotStaked(bytes32 relayId);
    error CommitteeExists(bytes32 relayId, uint32 epoch);
    error NotOnCommittee(address verifier);
    error CommitOver(uint256 until);
    error AlreadyCommitted();
    error RevealNotOpen(uint256 from);
    error LateReveal(uint256 until);
    error NotCommitted();
    error AlreadyRevealed();
    error WrongReveal();
    error BadReason(uint256 reason);
    error VerdictNotDue(uint256 from);
    error VerdictOutOfOrder(uint32 epoch, uint32 last);
    error NoCommittee(bytes32 relayId, uint32 epoch);
    error NotSuspended(bytes32 relayId);
    error DisputeStillOpen(uint256 until);
    error NotEquivocal();
    error WrongSigner(address verifier);

    /// Codes of reports and verdicts. docs/economics.md has the table.
    enum Reason {
        Good,
        Slow, // below 90 % of the claim
        Unreachable,
        Busy, // the router answered "busy: household"
        Corrupt, // wrong bytes of keystream
        Inconclusive // verdict only: too few agree
    }

    /// One verifier's measurement; packed into a word by `pack`.
    struct Report {
        uint32 kbps;
        uint16 latencyMs;
        uint16 lossBps;
        Reason reason;
        uint24 prefix4; // the relay's IPv4 /24; zero: none seen
        uint48 prefix6; // its IPv6 /48; zero: none seen
    }

    struct Standing {
        uint32 lastEpoch; // of the last verdict
        uint32 kbps; // median of the last conclusive one
        Reason reason; // and its reason
        uint8 strikes; // 0 none, 1 under suspicion, 2 suspended
        uint8 acquittals; // good verdicts in a row while suspended
        uint40 suspendedAt;
        uint32 suspicionEpoch; // of the first adverse verdict
        uint16 score; // basis points
        uint40 creditAt; // when `credit` was last counted
        uint32 credit; // seconds of tolerated downtime used
        // second slot
        Reason charge; // what it is suspended for
        uint24 prefix4;
        uint48 prefix6;
        uint64 capacity; // sum over epochs of audited kbit/s: what emission pays for
        uint32 audits; // number of conclusive verdicts
        uint32 chargedKbps; // the median of the verdict that suspended it
    }

    event CommitteeDrawn(bytes32 indexed relayId, uint32 indexed epoch, uint256 seats, uint256 size);
    event Committed(bytes32 indexed relayId, uint32 indexed epoch, address indexed verifier);
    event Revealed(bytes32 indexed relayId, uint32 indexed epoch, address indexed verifier, uint256 report);
    event Verdict(
        bytes32 indexed relayId,
        uint32 indexed epoch,
        Reason reason,
        uint32 kbps,
        uint256 reveals,
        uint256 votes,
        uint8 strikes
    );
    event Acquitted(bytes32 indexed relayId, uint32 indexed epoch);
    event Concluded(bytes32 indexed relayId, Reason charge, uint256 slashed);
    event Equivocation(address indexed verifier, bytes32 indexed relayId, uint32 indexed epoch, address finder);

    bytes32 public constant REPORT_TYPEHASH = keccak256("Report(bytes32 relayId,uint32 epoch,uint256 report)");
    uint256 private constant REVEALED = 1 << 255;

    StakeRegistry public immutable registry;
    uint256 public immutable commitSeconds;
    uint256 public immutable revealSeconds;
    uint256 public immutable disputeSeconds;

    mapping(bytes32 relayId => Standing) private _standings;
    /// Seats of a committee, 16 bits each from the low end.
    mapping(bytes32 relayId => mapping(uint32 epoch => uint256)) public committeeOf;
    /// By place on the committee: 255 bits of the commitment, or the packed report with the top bit set.
    mapping(bytes32 relayId => mapping(uint32 epoch => mapping(uint256 place => uint256))) public reportOf;

    constructor(Parameters parameters, BandwidthToken bwt_, StakeRegistry registry_)
        Verifiers(parameters, bwt_)
        EIP712("bwrouter BandwidthProof", "1")
    {
        registry = registry_;
        commitSeconds = parameters.commit();
        revealSeconds = parameters.reveal();
        disputeSeconds = parameters.dispute();
    }

    // --- views ------------------------------------------------------------------------------------------------

    function standing(bytes32 relayId) external view returns (Standing memory) {
        return _standings[relayId];
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// kbps from bit 0, latencyMs 32, lossBps 48, reason 64, prefix4 72, prefix6 96.
    function pack(Report memory r) public pure returns (uint256) {
        return uint256(r.kbps) | uint256(r.latencyMs) << 32 | uint256(r.lossBps) << 48 | uint256(r.reason) << 64
            | uint256(r.prefix4) << 72 | uint256(r.prefix6) << 96;
    }

    /// The commitment to a report.
    function commitment(address verifier, bytes32 relayId, uint32 epoch, uint256 report, bytes32 salt)
        public
        pure
        returns (bytes32)
    {
        return bytes32(uint256(keccak256(abi.encode(verifier, relayId, epoch, report, salt))) & ~REVEALED);
    }

    /// Seconds of tolerated downtime that a relay has used up at this moment.
    function creditUsed(bytes32 relayId) public view returns (uint256) {
        Standing storage s = _standings[relayId];
        uint256 refilled = (block.timestamp - s.creditAt) * DOWNTIME_CREDIT / DOWNTIME_PERIOD;
        return s.credit > refilled ? s.credit - refilled : 0;
    }

    // --- the audit --------------------------------------------------------------------------------------------

    /// Draws the committee of a relay for the current epoch; under suspicion, from those who did not sit in judgement before.
    function assemble(bytes32 relayId) external {
        uint32 epoch = currentEpoch();
        if (registry.relay(relayId).state == StakeRegistry.State.None) revert RelayNotStaked(relayId);
        if (committeeOf[relayId][epoch] != 0) revert CommitteeExists(relayId, epoch);
        Standing storage s = _standings[relayId];
        uint256 excluded = s.strikes == 1 ? committeeOf[relayId][s.suspicionEpoch] : 0;
        (uint256 seats_, uint256 size) = _draw(relayId, epoch, excluded);
        committeeOf[relayId][epoch] = seats_;
        emit CommitteeDrawn(relayId, epoch, seats_, size);
    }

    /// @param place of the caller on the committee, from 0; hash: `commitment(...)`
    function commit(bytes32 relayId, uint256 place, bytes32 hash) external {
        uint32 epoch = currentEpoch();
        uint256 until = epoch * auditSeconds + commitSeconds;
        if (block.timestamp >= until) revert CommitOver(until);
        _requirePlace(relayId, epoch, place);
        if (reportOf[relayId][epoch][place] != 0) revert AlreadyCommitted();
        if (hash == 0 || uint256(hash) & REVEALED != 0) revert WrongReveal();
        reportOf[relayId][epoch][place] = uint256(hash);
        emit Committed(relayId, epoch, msg.sender);
    }

    function reveal(bytes32 relayId, uint256 place, uint256 report, bytes32 salt) external {
        uint32 epoch = currentEpoch();
        uint256 from = epoch * auditSeconds + commitSeconds;
        if (block.timestamp < from) revert RevealNotOpen(from);
        if (block.timestamp >= from + revealSeconds) revert LateReveal(from + revealSeconds);
        uint256 stored = reportOf[relayId][epoch][place];
        if (stored == 0) revert NotCommitted();
        if (stored & REVEALED != 0) revert AlreadyRevealed();
        if (uint256(commitment(msg.sender, relayId, epoch, report, salt)) != stored) revert WrongReveal();
        uint256 reason = report >> 64 & 0xff;
        if (reason >= uint256(Reason.Inconclusive) || report >> 144 != 0) revert BadReason(reason);
        reportOf[relayId][epoch][place] = report | REVEALED;
        emit Revealed(relayId, epoch, msg.sender, report);
    }

    /// Gives the verdict of an epoch whose reveals are over. Verdicts of a relay are given in order; anybody may call.
    function verdict(bytes32 relayId, uint32 epoch) external returns (Reason reason) {
        uint256 from = epoch * auditSeconds + commitSeconds + revealSeconds;
        if (block.timestamp < from) revert VerdictNotDue(from);
        Standing storage s = _standings[relayId];
        if (epoch <= s.lastEpoch) revert VerdictOutOfOrder(epoch, s.lastEpoch);
        uint256 committee = committeeOf[relayId][epoch];
        if (committee == 0) revert NoCommittee(relayId, epoch);
        StakeRegistry.Relay memory relay = registry.relay(relayId);
        if (relay.state == StakeRegistry.State.None) revert RelayNotStaked(relayId);

        Count5 memory votes;
        uint256[] memory rates;
        (rates, votes) = _tally(relayId, epoch, committee, relay.rateKbps, s);
        uint256 reveals = rates.length;
        uint32 median = uint32(_median(rates));
        uint256 agreeing;
        (reason, agreeing) = _decide(votes);
        if (reason != Reason.Inconclusive) _apply(relayId, epoch, reason, median, relay, s);
        s.lastEpoch = epoch;
        emit Verdict(relayId, epoch, reason, median, reveals, agreeing, s.strikes);
    }

    /// After the dispute window: slashes a suspended relay for what it is charged with and lifts the suspension.
    /// The caller gets the finder's share.
    function conclude(bytes32 relayId) external {
        Standing storage s = _standings[relayId];
        if (s.strikes != 2) revert NotSuspended(relayId);
        uint256 until = s.suspendedAt + disputeSeconds;
        if (block.timestamp < until) revert DisputeStillOpen(until);
        Reason charge = s.charge;
        (s.strikes, s.acquittals, s.suspendedAt) = (0, 0, 0);
        uint256 bps = charge == Reason.Slow ? SLASH_SLOW_BPS : charge == Reason.Corrupt ? SLASH_CORRUPT_BPS : 0;
        uint256 amount = registry.relay(relayId).stake * bps / BPS;
        emit Concluded(relayId, charge, amount);
        if (charge == Reason.Slow) registry.lowerRate(relayId, s.chargedKbps);
        if (amount == 0) registry.reinstate(relayId);
        else registry.slash(relayId, amount, msg.sender, amount * FINDER_BPS / BPS);
    }

    /// Slashes the whole bond of a verifier that signed two different reports on one audit, or one that differs from
    /// what it revealed (`signatureB` empty; `place` is its place on the committee). The caller gets the finder's share.
    function proveEquivocation(
        address verifier,
        bytes32 relayId,
        uint32 epoch,
        uint256 reportA,
        bytes calldata signatureA,
        uint256 reportB,
        bytes calldata signatureB,
        uint256 place
    ) external {
        if (reportA == reportB) revert NotEquivocal();
        _requireSigned(verifier, relayId, epoch, reportA, signatureA);
        if (signatureB.length != 0) {
            _requireSigned(verifier, relayId, epoch, reportB, signatureB);
        } else {
            uint256 seat = committeeOf[relayId][epoch] >> (16 * place) & 0xffff;
            if (seat == 0 || _verifiers[verifier].seat != seat) revert NotOnCommittee(verifier);
            if (reportOf[relayId][epoch][place] != reportB | REVEALED) revert NotEquivocal();
        }
        uint256 bond = _verifiers[verifier].bond;
        if (bond == 0) revert NotVerifier(verifier);
        emit Equivocation(verifier, relayId, epoch, msg.sender);
        _slashVerifier(verifier, bond, msg.sender, bond * FINDER_BPS / BPS);
    }

    // --- inside -----------------------------------------------------------------------------------------------

    /// Votes by reason.
    struct Count5 {
        uint256[5] of_;
        uint256 size; // seats of the committee
        uint256 reveals;
    }

    function _requirePlace(bytes32 relayId, uint32 epoch, uint256 place) private view {
        uint256 seat = place < 16 ? committeeOf[relayId][epoch] >> (16 * place) & 0xffff : 0;
        if (seat == 0 || _verifiers[msg.sender].seat != seat) revert NotOnCommittee(msg.sender);
    }

    function _requireSigned(address verifier, bytes32 relayId, uint32 epoch, uint256 report, bytes calldata signature)
        private
        view
    {
        bytes32 hash = _hashTypedDataV4(keccak256(abi.encode(REPORT_TYPEHASH, relayId, epoch, report)));
        if (!SignatureChecker.isValidSignatureNowCalldata(verifier, hash, signature)) revert WrongSigner(verifier);
    }

    /// Reads the committee's reports: rates of those revealed, votes by reason. Penalises seats that committed and kept
    /// silent. Notes the address prefixes that the majority saw.
    function _tally(bytes32 relayId, uint32 epoch, uint256 committee, uint256 claim, Standing storage s)
        private
        returns (uint256[] memory rates, Count5 memory votes)
    {
        rates = new uint256[](16);
        uint256 prefixes;
        uint256 support;
        for (uint256 place = 0; committee >> (16 * place) != 0; ++place) {
            ++votes.size;
            uint256 report = reportOf[relayId][epoch][place];
            if (report < REVEALED) {
                if (report != 0) _penalise(committee >> (16 * place) & 0xffff);
                continue;
            }
            report ^= REVEALED;
            uint256 reason = report >> 64 & 0xff;
            uint256 kbps = uint32(report);
            // What is slow is the contract's to say, from the number.
            if (reason <= uint256(Reason.Slow)) {
                reason = kbps * BPS < claim * SLOW_BPS ? uint256(Reason.Slow) : uint256(Reason.Good);
            }
            ++votes.of_[reason];
            rates[votes.reveals++] = kbps;
            // The majority's address prefixes (Boyer and Moore): right whenever more than half of the reports agree.
            if (support == 0) prefixes = report >> 72;
            if (prefixes == report >> 72) ++support;
            else --support;
        }
        if (votes.reveals != 0) (s.prefix4, s.prefix6) = (uint24(prefixes), uint48(prefixes >> 24));
        uint256 reveals = votes.reveals;
        assembly ("memory-safe") {
            mstore(rates, reveals)
        }
    }

    function _penalise(uint256 seat) private {
        address verifier = _seats[seat - 1];
        if (_verifiers[verifier].seat == seat) _slashVerifier(verifier, SILENCE_PENALTY, address(0), 0);
    }

    function _decide(Count5 memory votes) private pure returns (Reason reason, uint256 agreeing) {
        uint256 needed = (votes.size * VERDICT_BPS + BPS - 1) / BPS;
        for (uint256 r = 0; r < 5; ++r) {
            if (votes.of_[r] >= needed) return (Reason(r), votes.of_[r]);
        }
        return (Reason.Inconclusive, votes.reveals);
    }

    /// Lower median of the rates, in place; zero for none.
    function _median(uint256[] memory rates) private pure returns (uint256) {
        uint256 n = rates.length;
        if (n == 0) return 0;
        for (uint256 i = 1; i < n; ++i) {
            uint256 x = rates[i];
            uint256 j = i;
            for (; j != 0 && rates[j - 1] > x; --j) {
                rates[j] = rates[j - 1];
            }
            rates[j] = x;
        }
        return rates[(n - 1) / 2];
    }

    function _apply(
        bytes32 relayId,
        uint32 epoch,
        Reason reason,
        uint32 median,
        StakeRegistry.Relay memory relay,
        Standing storage s
    ) private {
        ++s.audits;
        (s.kbps, s.reason) = (median, reason);
        if (reason == Reason.Good) {
            s.score += uint16((BPS - s.score) / SCORE_RISE);
            s.capacity += median < relay.rateKbps ? median : relay.rateKbps;
            if (s.strikes == 1) s.strikes = 0;
            else if (s.strikes == 2 && ++s.acquittals >= ACQUITTALS) _acquit(relayId, epoch, s);
            return;
        }
        if ((reason == Reason.Busy || reason == Reason.Unreachable) && _excused(relayId, s)) return;
        s.score -= uint16(s.score / SCORE_FALL);
        if (s.strikes == 2) {
            s.acquittals = 0;
        } else if (s.strikes == 0 || !_disjoint(relayId, s.suspicionEpoch, epoch)) {
            (s.strikes, s.suspicionEpoch) = (1, epoch);
            registry.postpone(relayId, block.timestamp + 2 * auditSeconds + disputeSeconds);
        } else {
            (s.strikes, s.acquittals, s.suspendedAt) = (2, 0, uint40(block.timestamp));
            (s.charge, s.chargedKbps) = (reason, median);
            registry.suspend(relayId);
        }
    }

    function _acquit(bytes32 relayId, uint32 epoch, Standing storage s) private {
        (s.strikes, s.acquittals, s.suspendedAt) = (0, 0, 0);
        emit Acquitted(relayId, epoch);
        registry.reinstate(relayId);
    }

    /// Uses one epoch of tolerated downtime, if there is enough left.
    function _excused(bytes32 relayId, Standing storage s) private returns (bool) {
        uint256 used = creditUsed(relayId) + auditSeconds;
        if (used > DOWNTIME_CREDIT) return false;
        (s.credit, s.creditAt) = (uint32(used), uint40(block.timestamp));
        return true;
    }

    function _disjoint(bytes32 relayId, uint32 epochA, uint32 epochB) private view returns (bool) {
        uint256 b = committeeOf[relayId][epochB];
        for (uint256 a = committeeOf[relayId][epochA]; a != 0; a >>= 16) {
            if (_contains(b, a & 0xffff)) return false;
        }
        return true;
    }
}
