// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {BandwidthToken} from "./BandwidthToken.sol";
import {GatewayBonds} from "./GatewayBonds.sol";
import {Merkle} from "./Merkle.sol";
import {BPS, CHALLENGE_BOND, FINDER_BPS, Parameters} from "./Parameters.sol";

/// @title The ledgers of `Settlement` and the challenge of a root that is below a receipt.
/// @notice A gateway signs for each redeem `Receipt(gateway, region, account, epoch, cumulative)`: the root of `epoch` and
/// every later one holds at least `cumulative` for `account`. While a root is pending, whoever has a receipt challenges
/// it under a bond; the gateway (or anybody) answers with the leaf that honours the receipt and gets that bond, or
/// loses its own: the root is void, a finder's share goes to the challenger, the rest is burned.
abstract contract Ledgers is GatewayBonds {
    error NoPendingRoot();
    error ReceiptForLaterEpoch(uint32 epoch, uint32 posted);
    error WrongReceipt(address gateway);
    error ChallengeOpen(address account);
    error NoChallenge(address account);
    error LeafBelowReceipt(uint256 cumulative, uint256 receipt);
    error ResponseStillOpen(uint256 deadline);
    error ResponseOver(uint256 deadline);
    error InvalidProof();

    /// Storage of a (gateway, region).
    struct Ledger {
        // slot 0: all that a claim needs besides the root
        address token;
        uint40 claimableAt; // when the pending root becomes final; zero: none pending
        uint32 epoch; // of the last posted root
        uint24 challenges; // open against the pending root
        // slot 1, 2
        bytes32 root; // final
        bytes32 pendingRoot;
        // slot 3: sums of all leaves, net of φ
        uint128 total;
        uint128 pendingTotal;
        // slot 4: sum of what vouchers have released to this ledger, gross
        uint128 spent;
        // slot 5: what an account has been paid, wei of the region's token, since the beginning
        mapping(address account => uint256) claimed;
    }

    /// What `ledger` returns: a Ledger without its count of challenges.
    struct LedgerView {
        address token;
        uint40 claimableAt;
        uint32 epoch;
        bytes32 root;
        bytes32 pendingRoot;
        uint128 total;
        uint128 pendingTotal;
        uint128 spent;
    }

    /// A buyer's account at a (gateway, region), gross.
    struct Deposit {
        uint128 paidIn; // deposited less withdrawn
        uint128 spent; // by vouchers that the account has signed
        uint128 leaving; // under notice
        uint40 dueAt;
    }

    /// For an account of a (gateway, region).
    struct Challenge {
        address challenger;
        uint40 deadline;
        uint32 epoch; // of the root it is against
        uint256 cumulative; // what the receipt promises
    }

    event RootChallenged(
        address indexed gateway, uint16 indexed region, address indexed account, uint256 cumulative, uint256 deadline
    );
    event ChallengeAnswered(address indexed gateway, uint16 indexed region, address indexed account);
    event RootVoided(
        address indexed gateway, uint16 indexed region, uint32 indexed epoch, uint256 bond, address finder
    );

    bytes32 public constant RECEIPT_TYPEHASH =
        keccak256("Receipt(address gateway,uint16 region,address account,uint32 epoch,uint256 cumulative)");

    uint256 public immutable responseSeconds;

    mapping(address gateway => mapping(uint16 region => Ledger)) internal _ledgers;
    mapping(address gateway => mapping(uint16 region => mapping(address account => Deposit))) internal _deposits;
    mapping(address gateway => mapping(uint16 region => mapping(address account => Challenge))) internal _challenges;

    constructor(Parameters parameters, BandwidthToken bwt_) GatewayBonds(parameters, bwt_) {
        responseSeconds = parameters.response();
    }

    function ledger(address gateway, uint16 region) external view returns (LedgerView memory) {
        Ledger storage l = _ledgers[gateway][region];
        return LedgerView(l.token, l.claimableAt, l.epoch, l.root, l.pendingRoot, l.total, l.pendingTotal, l.spent);
    }

    /// Challenges open against the pending root; while there is one, the root cannot become final.
    function openChallenges(address gateway, uint16 region) external view returns (uint256) {
        return _ledgers[gateway][region].challenges;
    }

    /// What `account` has been paid of its earnings, in wei of the region's token, since the beginning.
    function claimed(address gateway, uint16 region, address account) external view returns (uint256) {
        return _ledgers[gateway][region].claimed[account];
    }

    function depositOf(address gateway, uint16 region, address account) external view returns (Deposit memory) {
        return _deposits[gateway][region][account];
    }

    function challengeOf(address gateway, uint16 region, address account) external view returns (Challenge memory) {
        return _challenges[gateway][region][account];
    }

    /// Challenges the pending root with a receipt that the gateway signed. Takes CHALLENGE_BOND of BWT by allowance.
    function challenge(
        address gateway,
        uint16 region,
        address account,
        uint32 epoch,
        uint256 cumulative,
        bytes calldata signature
    ) external {
        Ledger storage l = _ledgers[gateway][region];
        if (l.claimableAt == 0 || block.timestamp >= l.claimableAt) revert NoPendingRoot();
        if (epoch > l.epoch) revert ReceiptForLaterEpoch(epoch, l.epoch);
        Challenge storage c = _challenges[gateway][region][account];
        if (c.challenger != address(0) && c.epoch == l.epoch) revert ChallengeOpen(account);
        bytes32 content = keccak256(abi.encode(RECEIPT_TYPEHASH, gateway, region, account, epoch, cumulative));
        if (!SignatureChecker.isValidSignatureNowCalldata(gateway, _hashTypedDataV4(content), signature)) {
            revert WrongReceipt(gateway);
        }
        uint256 deadline = block.timestamp + responseSeconds;
        address stranded = c.challenger; // of a root that another challenge has voided
        (c.challenger, c.deadline, c.epoch, c.cumulative) = (msg.sender, uint40(deadline), l.epoch, cumulative);
        ++l.challenges;
        emit RootChallenged(gateway, region, account, cumulative, deadline);
        bwt.transferFrom(msg.sender, address(this), CHALLENGE_BOND);
        if (stranded != address(0)) bwt.transfer(stranded, CHALLENGE_BOND);
    }

    /// Shows the pending root's leaf that honours the challenged receipt. The challenge's bond goes to the gateway.
    function answer(address gateway, uint16 region, address account, uint256 cumulative, bytes32[] calldata proof)
        external
    {
        Ledger storage l = _ledgers[gateway][region];
        Challenge memory c = _openChallenge(l, gateway, region, account);
        if (block.timestamp > c.deadline) revert ResponseOver(c.deadline);
        if (cumulative < c.cumulative) revert LeafBelowReceipt(cumulative, c.cumulative);
        if (Merkle.root(proof, Merkle.leaf(account, cumulative)) != l.pendingRoot) revert InvalidProof();
        --l.challenges;
        delete _challenges[gateway][region][account];
        emit ChallengeAnswered(gateway, region, account);
        bwt.transfer(gateway, CHALLENGE_BOND);
    }

    /// After the response time: voids the root and slashes the gateway's whole bond.
    function convict(address gateway, uint16 region, address account) external {
        Ledger storage l = _ledgers[gateway][region];
        Challenge memory c = _openChallenge(l, gateway, region, account);
        if (block.timestamp <= c.deadline) revert ResponseStillOpen(c.deadline);
        uint256 bond_ = _gateways[gateway].bond;
        uint256 share = bond_ * FINDER_BPS / BPS;
        _gateways[gateway].bond = 0;
        (l.claimableAt, l.challenges, l.pendingRoot, l.pendingTotal) = (0, 0, 0, 0);
        delete _challenges[gateway][region][account];
        emit RootVoided(gateway, region, l.epoch, bond_, c.challenger);
        bwt.burn(bond_ - share);
        bwt.transfer(c.challenger, share + CHALLENGE_BOND);
    }

    /// Gives a challenger's bond back when another challenge has voided the root.
    function refundChallenge(address gateway, uint16 region, address account) external {
        Ledger storage l = _ledgers[gateway][region];
        Challenge memory c = _challenges[gateway][region][account];
        if (c.challenger == address(0) || (l.claimableAt != 0 && c.epoch == l.epoch)) revert NoChallenge(account);
        delete _challenges[gateway][region][account];
        bwt.transfer(c.challenger, CHALLENGE_BOND);
    }

    function _openChallenge(Ledger storage l, address gateway, uint16 region, address account)
        private
        view
        returns (Challenge memory c)
    {
        c = _challenges[gateway][region][account];
        if (c.challenger == address(0) || l.claimableAt == 0 || c.epoch != l.epoch) revert NoChallenge(account);
    }
}
