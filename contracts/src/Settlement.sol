// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {BandwidthToken} from "./BandwidthToken.sol";
import {Ledgers} from "./Ledgers.sol";
import {Merkle} from "./Merkle.sol";
import {BPS, PHI_BPS, Parameters} from "./Parameters.sol";
import {Permits} from "./Permits.sol";
import {PoolFactory} from "./PoolFactory.sol";
import {RegionToken} from "./RegionToken.sol";

/// @title From buyers' deposits to relays' earnings, one ledger for each (gateway, region).
/// @notice A buyer deposits with a gateway and signs a voucher of cumulative spending for every ticket it is issued; the
/// gateway brings the vouchers by `charge`. It posts, under its bond, the Merkle root of what each account has earned
/// since the beginning, never more in sum than the vouchers released. After the challenge window the root is final: the
/// sum of its leaves moves from the deposits to the earnings escrow of that gateway, and the share φ of use is burned.
/// `claim` pays an account its cumulative earnings less what it was paid before. Ledgers share no tokens, so a dishonest
/// gateway can reach nothing but what was deposited with it and signed away by its depositor.
contract Settlement is Ledgers {
    error ZeroAmount();
    error UnknownRegion(uint16 region);
    error EpochOutOfOrder(uint32 epoch, uint32 last);
    error EpochNotBegun(uint32 epoch, uint32 current);
    error RootPending(uint256 claimableAt);
    error RootAboveDeposits(uint256 gross, uint256 spent);
    error TotalBelowLast(uint256 total, uint256 last);
    error NothingToClaim(address account);
    error LengthMismatch();
    error DepositTooSmall(uint256 amount, uint256 unspent);
    error NoWithdrawal();
    error WithdrawalNotDue(uint256 dueAt);
    error WrongVoucher(address account);

    event Deposited(address indexed gateway, uint16 indexed region, address indexed account, uint256 amount);
    event WithdrawalRequested(
        address indexed gateway, uint16 indexed region, address indexed account, uint256 amount, uint256 dueAt
    );
    event Withdrawn(address indexed gateway, uint16 indexed region, address indexed account, uint256 amount);
    event Charged(address indexed gateway, uint16 indexed region, address indexed account, uint256 spent);
    event RootPosted(
        address indexed gateway,
        uint16 indexed region,
        uint32 indexed epoch,
        bytes32 root,
        uint256 total,
        uint256 claimableAt
    );
    event RootFinal(address indexed gateway, uint16 indexed region, bytes32 root, uint256 total, uint256 burned);

    bytes32 public constant SPEND_TYPEHASH =
        keccak256("Spend(address gateway,uint16 region,address account,uint256 cumulative)");

    PoolFactory public immutable factory;
    uint256 public immutable epochSeconds;
    uint256 public immutable challengeSeconds;
    uint256 public immutable withdrawalSeconds;

    constructor(Parameters parameters, BandwidthToken bwt_, PoolFactory factory_) Ledgers(parameters, bwt_) {
        factory = factory_;
        epochSeconds = parameters.epoch();
        challengeSeconds = parameters.challenge();
        withdrawalSeconds = parameters.withdrawal();
    }

    // --- views ------------------------------------------------------------------------------------------------

    function currentEpoch() public view returns (uint32) {
        return uint32(block.timestamp / epochSeconds);
    }

    /// What a sum of earnings costs the buyers: earnings and the burned share φ.
    function grossOf(uint256 net) public pure returns (uint256) {
        return (net * BPS + (BPS - PHI_BPS) - 1) / (BPS - PHI_BPS);
    }

    // --- buyers -----------------------------------------------------------------------------------------------

    /// Deposits the caller's region tokens with a bonded gateway to the credit of `account`.
    function deposit(address gateway, uint16 region, address account, uint256 amount) external {
        _deposit(gateway, region, account, amount, 0, msg.data[0:0]);
    }

    /// As `deposit`, with the caller's ERC-2612 permit of `amount` to this contract (65 bytes r, s, v).
    function depositWithPermit(
        address gateway,
        uint16 region,
        address account,
        uint256 amount,
        uint256 deadline,
        bytes calldata permitSignature
    ) external {
        _deposit(gateway, region, account, amount, deadline, permitSignature);
    }

    /// Gives notice of taking `amount` of unspent deposit back; the gateway has the window to bring vouchers.
    function requestWithdrawal(address gateway, uint16 region, uint256 amount) external {
        if (amount == 0) revert ZeroAmount();
        Deposit storage d = _deposits[gateway][region][msg.sender];
        uint256 unspent = d.paidIn - d.spent;
        if (amount > unspent) revert DepositTooSmall(amount, unspent);
        uint256 dueAt = block.timestamp + withdrawalSeconds;
        (d.leaving, d.dueAt) = (uint128(amount), uint40(dueAt));
        emit WithdrawalRequested(gateway, region, msg.sender, amount, dueAt);
    }

    /// Pays what is under notice, or what vouchers have left of it.
    function withdraw(address gateway, uint16 region) external returns (uint256 amount) {
        Deposit storage d = _deposits[gateway][region][msg.sender];
        if (d.leaving == 0) revert NoWithdrawal();
        if (block.timestamp < d.dueAt) revert WithdrawalNotDue(d.dueAt);
        uint256 unspent = d.paidIn - d.spent;
        amount = d.leaving < unspent ? d.leaving : unspent;
        if (amount == 0) revert DepositTooSmall(d.leaving, 0);
        (d.paidIn, d.leaving, d.dueAt) = (d.paidIn - uint128(amount), 0, 0);
        emit Withdrawn(gateway, region, msg.sender, amount);
        RegionToken(_ledgers[gateway][region].token).release(gateway, msg.sender, amount);
    }

    /// Records what accounts have spent with the calling gateway, by their EIP-712 vouchers of cumulative spending.
    function charge(
        uint16 region,
        address[] calldata accounts,
        uint256[] calldata cumulatives,
        bytes[] calldata vouchers
    ) external {
        if (accounts.length != cumulatives.length || accounts.length != vouchers.length) revert LengthMismatch();
        uint256 released;
        for (uint256 i = 0; i < accounts.length; ++i) {
            Deposit storage d = _deposits[msg.sender][region][accounts[i]];
            uint256 cumulative = cumulatives[i];
            if (cumulative <= d.spent) continue;
            if (cumulative > d.paidIn) revert DepositTooSmall(cumulative, d.paidIn);
            bytes32 digest =
                _hashTypedDataV4(keccak256(abi.encode(SPEND_TYPEHASH, msg.sender, region, accounts[i], cumulative)));
            if (!SignatureChecker.isValidSignatureNowCalldata(accounts[i], digest, vouchers[i])) {
                revert WrongVoucher(accounts[i]);
            }
            released += cumulative - d.spent;
            d.spent = uint128(cumulative);
            emit Charged(msg.sender, region, accounts[i], cumulative);
        }
        _ledgers[msg.sender][region].spent += uint128(released);
    }

    // --- gateways ---------------------------------------------------------------------------------------------

    /// Posts the root of cumulative earnings up to the end of `epoch` for the calling gateway.
    /// @param total sum of all leaves, wei of the region's token
    function postRoot(uint16 region, uint32 epoch, bytes32 root, uint256 total) external {
        _requireBonded(msg.sender);
        Ledger storage l = _ledgers[msg.sender][region];
        if (l.token == address(0)) revert UnknownRegion(region);
        if (l.claimableAt != 0) {
            if (block.timestamp < l.claimableAt || l.challenges != 0) revert RootPending(l.claimableAt);
            _finalise(l, msg.sender, region);
        }
        if (epoch <= l.epoch) revert EpochOutOfOrder(epoch, l.epoch);
        if (epoch > currentEpoch()) revert EpochNotBegun(epoch, currentEpoch());
        if (total < l.total) revert TotalBelowLast(total, l.total);
        uint256 gross = grossOf(total);
        if (gross > l.spent) revert RootAboveDeposits(gross, l.spent);
        uint256 claimableAt = block.timestamp + challengeSeconds;
        l.pendingRoot = root;
        l.pendingTotal = uint128(total);
        (l.claimableAt, l.epoch) = (uint40(claimableAt), epoch);
        emit RootPosted(msg.sender, region, epoch, root, total, claimableAt);
    }

    /// Makes a root whose window has passed final. Claims and the next post do it too.
    function finalise(address gateway, uint16 region) external {
        Ledger storage l = _ledgers[gateway][region];
        if (l.claimableAt == 0 || block.timestamp < l.claimableAt || l.challenges != 0) {
            revert RootPending(l.claimableAt);
        }
        _finalise(l, gateway, region);
    }

    // --- relays -----------------------------------------------------------------------------------------------

    /// Pays `account` what it has earned with `gateway` in `region` and not been paid. Anybody may call it.
    /// @param cumulative the leaf's amount; proof: from the leaf (account, cumulative) to the final root
    function claim(address gateway, uint16 region, address account, uint256 cumulative, bytes32[] calldata proof)
        external
    {
        Ledger storage l = _ledgers[gateway][region];
        RegionToken token = _finalised(l, gateway, region);
        uint256 due = _take(l, l.root, account, cumulative, proof);
        if (due == 0 || !token.pay(gateway, account, due)) revert NothingToClaim(account);
    }

    /// `claim` for many accounts; those with nothing due are passed over, a wrong proof reverts all.
    function claimMany(
        address gateway,
        uint16 region,
        address[] calldata accounts,
        uint256[] calldata cumulatives,
        bytes32[][] calldata proofs
    ) external {
        if (accounts.length != cumulatives.length || accounts.length != proofs.length) {
            revert LengthMismatch();
        }
        Ledger storage l = _ledgers[gateway][region];
        RegionToken token = _finalised(l, gateway, region);
        bytes32 root = l.root;
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 due = _take(l, root, accounts[i], cumulatives[i], proofs[i]);
            if (due != 0 && !token.pay(gateway, accounts[i], due)) revert NothingToClaim(accounts[i]);
        }
    }

    // --- inside -----------------------------------------------------------------------------------------------

    function _deposit(
        address gateway,
        uint16 region,
        address account,
        uint256 amount,
        uint256 deadline,
        bytes calldata permitSignature
    ) private {
        if (amount == 0) revert ZeroAmount();
        _requireBonded(gateway);
        Ledger storage l = _ledgers[gateway][region];
        address token = l.token;
        if (token == address(0)) {
            token = factory.tokenOf(region);
            if (token == address(0)) revert UnknownRegion(region);
            l.token = token;
        }
        _deposits[gateway][region][account].paidIn += uint128(amount);
        emit Deposited(gateway, region, account, amount);
        address escrow = RegionToken(token).depositsEscrow(gateway);
        Permits.pull(RegionToken(token), msg.sender, escrow, amount, deadline, permitSignature);
    }

    /// The ledger's token, after a root whose window has passed was made final.
    function _finalised(Ledger storage l, address gateway, uint16 region) private returns (RegionToken) {
        (address token, uint256 claimableAt) = (l.token, l.claimableAt);
        if (claimableAt != 0 && block.timestamp >= claimableAt && l.challenges == 0) _finalise(l, gateway, region);
        return RegionToken(token);
    }

    function _finalise(Ledger storage l, address gateway, uint16 region) private {
        (bytes32 root, uint256 total, uint256 last) = (l.pendingRoot, l.pendingTotal, l.total);
        uint256 net = total - last;
        // Of cumulative sums, so that rounding up never adds: the gross of all roots is grossOf(total).
        uint256 burn = (grossOf(total) - total) - (grossOf(last) - last);
        l.root = root;
        l.total = uint128(total);
        l.claimableAt = 0;
        emit RootFinal(gateway, region, root, total, burn);
        if (net != 0) RegionToken(l.token).settle(gateway, net, burn);
    }

    function _take(Ledger storage l, bytes32 root, address account, uint256 cumulative, bytes32[] calldata proof)
        private
        returns (uint256 due)
    {
        if (Merkle.root(proof, Merkle.leaf(account, cumulative)) != root) {
            revert InvalidProof();
        }
        uint256 before = l.claimed[account];
        if (cumulative > before) {
            l.claimed[account] = cumulative;
            unchecked {
                due = cumulative - before;
            }
        }
    }
}
