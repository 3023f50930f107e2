// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BandwidthProof} from "../src/BandwidthProof.sol";
import {BandwidthToken} from "../src/BandwidthToken.sol";
import {Emission} from "../src/Emission.sol";
import {LiquidityPool} from "../src/LiquidityPool.sol";
import {Parameters, Windows} from "../src/Parameters.sol";
import {PoolFactory} from "../src/PoolFactory.sol";
import {RegionToken} from "../src/RegionToken.sol";
import {Settlement} from "../src/Settlement.sol";
import {StakeRegistry} from "../src/StakeRegistry.sol";

/// The part of forge's cheat codes that these tests use.
interface Vm {
    function warp(uint256) external;
    function roll(uint256) external;
    function prank(address) external;
    function startPrank(address) external;
    function stopPrank() external;
    function chainId(uint256) external;
    function setBlockhash(uint256, bytes32) external;
    function prevrandao(bytes32) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function addr(uint256 key) external pure returns (address);
    function expectRevert(bytes calldata) external;
    function expectRevert(bytes4) external;
    function expectPartialRevert(bytes4) external;
    function assume(bool) external pure;
    function snapshotState() external returns (uint256);
    function revertToState(uint256) external returns (bool);
    function deployCode(string calldata what, bytes calldata arguments) external returns (address);
    function load(address, bytes32) external view returns (bytes32);
}

/// Assertions, accounts with keys, and the whole deployment in the order of contracts/README.md.
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint16 internal constant REGION = 1;
    uint256 internal constant START = 1_800_000_000;

    address internal governor = address(0x6000);
    uint256 internal gatewayKey = 0xA11CE;
    uint256 internal routerKey = 0xB0B;
    uint256 internal buyerKey = 0xCAFE;
    address internal gateway;
    address internal router;
    address internal buyer;

    Parameters internal parameters;
    BandwidthToken internal bwt;
    PoolFactory internal factory;
    StakeRegistry internal registry;
    Settlement internal settlement;
    BandwidthProof internal proof;
    Emission internal emission;
    RegionToken internal token;
    LiquidityPool internal pool;

    function windows() internal pure virtual returns (Windows memory) {
        return Windows({
            epoch: 1 hours,
            challenge: 6 hours,
            response: 6 hours,
            withdrawal: 12 hours,
            unbonding: 21 days,
            auditEpoch: 1 hours,
            commit: 20 minutes,
            reveal: 20 minutes,
            dispute: 7 days,
            emissionEpoch: 1 days,
            twap: 6 hours
        });
    }

    function setUp() public virtual {
        vm.warp(START);
        (gateway, router, buyer) = (vm.addr(gatewayKey), vm.addr(routerKey), vm.addr(buyerKey));
        deploy();
    }

    function deploy() internal virtual {
        parameters = Parameters(make("Parameters", abi.encode(windows())));
        bwt = BandwidthToken(make("BandwidthToken", abi.encode(address(this))));
        factory = PoolFactory(make("PoolFactory", abi.encode(bwt, address(this))));
        registry = StakeRegistry(make("StakeRegistry", abi.encode(parameters, bwt, address(this))));
        settlement = Settlement(make("Settlement", abi.encode(parameters, bwt, factory)));
        factory.connectSettlement(address(settlement));
        proof = BandwidthProof(make("BandwidthProof", abi.encode(parameters, bwt, registry)));
        registry.setAuditor(address(proof));
        emission = Emission(make("Emission", abi.encode(parameters, registry, proof, settlement, factory)));
        factory.connectEmission(address(emission));
        (token, pool) = factory.createRegion(REGION, "Bandwidth of region 1", "BW1", address(this), 1_000_000e18);
        bwt.approve(address(pool), type(uint256).max);
        token.approve(address(pool), type(uint256).max);
    }

    /// Deploys a compiled contract by name, so that no test carries the code of all of them.
    function make(string memory name, bytes memory arguments) internal returns (address) {
        return vm.deployCode(string.concat(name, ".sol:", name), arguments);
    }

    // --- actors -----------------------------------------------------------------------------------------------

    function seedPool(uint256 bwtAmount, uint256 tokenAmount) internal {
        pool.addLiquidity(bwtAmount, tokenAmount, 0, address(this), block.timestamp);
    }

    function bondGateway(uint256 key) internal returns (address who) {
        who = vm.addr(key);
        bwt.transfer(who, 10_000e18);
        vm.startPrank(who);
        bwt.approve(address(settlement), type(uint256).max);
        settlement.bond(keccak256("ed25519"), 10_000e18, block.timestamp, "");
        vm.stopPrank();
    }

    function depositFor(address gateway_, address account, uint256 amount) internal {
        token.transfer(account, amount);
        vm.startPrank(account);
        token.approve(address(settlement), amount);
        settlement.deposit(gateway_, REGION, account, amount);
        vm.stopPrank();
    }

    function registerRelay(bytes32 relayId, uint256 key, uint32 rateKbps, uint256 stake) internal {
        address owner = vm.addr(key);
        bwt.transfer(owner, stake);
        StakeRegistry.Registration memory r =
            StakeRegistry.Registration(relayId, owner, owner, REGION, rateKbps, stake, block.timestamp + 60);
        registry.register(
            r, signRegistration(r, key, registry.nonces(owner)), signPermit(key, address(registry), stake, r.deadline)
        );
    }

    /// The gateway brings the buyer's voucher of cumulative spending.
    function charge(address gateway_, uint256 key, uint256 cumulative) internal {
        (address[] memory who, uint256[] memory sums, bytes[] memory vouchers) =
            (new address[](1), new uint256[](1), new bytes[](1));
        (who[0], sums[0]) = (vm.addr(key), cumulative);
        bytes32 content = keccak256(abi.encode(settlement.SPEND_TYPEHASH(), gateway_, REGION, who[0], cumulative));
        vouchers[0] = signWith(key, digest(settlement.domainSeparator(), content));
        vm.prank(gateway_);
        settlement.charge(REGION, who, sums, vouchers);
    }

    // --- signatures -------------------------------------------------------------------------------------------

    function digest(bytes32 domain, bytes32 content) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", domain, content));
    }

    function signWith(uint256 key, bytes32 hash) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, hash);
        return abi.encodePacked(r, s, v);
    }

    function signRegistration(StakeRegistry.Registration memory r, uint256 key, uint256 nonce)
        internal
        view
        returns (bytes memory)
    {
        bytes memory first = abi.encode(registry.REGISTER_TYPEHASH(), r.relayId, r.owner, r.payout, r.region);
        bytes memory second = abi.encode(r.rateKbps, r.stake, nonce, r.deadline);
        return signWith(key, digest(registry.domainSeparator(), keccak256(bytes.concat(first, second))));
    }

    function signPermit(uint256 key, address spender, uint256 value, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        return signPermitOf(bwt, key, spender, value, deadline);
    }

    function signPermitOf(BandwidthToken of_, uint256 key, address spender, uint256 value, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        address owner = vm.addr(key);
        bytes32 kind = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 content = keccak256(abi.encode(kind, owner, spender, value, of_.nonces(owner), deadline));
        return signWith(key, digest(of_.DOMAIN_SEPARATOR(), content));
    }

    // --- Merkle trees (OpenZeppelin StandardMerkleTree leaves) ------------------------------------------------

    function leafOf(address account, uint256 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
    }

    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    function twoLeaves(address a, uint256 x, address b, uint256 y)
        internal
        pure
        returns (bytes32 root, bytes32[] memory proofA, bytes32[] memory proofB)
    {
        (proofA, proofB) = (new bytes32[](1), new bytes32[](1));
        (proofA[0], proofB[0]) = (leafOf(b, y), leafOf(a, x));
        root = pair(proofA[0], proofB[0]);
    }

    // --- assertions -------------------------------------------------------------------------------------------

    error Unequal(string what, uint256 got, uint256 wanted);
    error NotTrue(string what);

    function eq(uint256 got, uint256 wanted, string memory what) internal pure {
        if (got != wanted) revert Unequal(what, got, wanted);
    }

    function yes(bool condition, string memory what) internal pure {
        if (!condition) revert NotTrue(what);
    }
}
