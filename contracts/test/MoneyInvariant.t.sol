// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BandwidthToken} from "../src/BandwidthToken.sol";
import {Ledgers} from "../src/Ledgers.sol";
import {LiquidityPool} from "../src/LiquidityPool.sol";
import {BWT_SUPPLY} from "../src/Parameters.sol";
import {RegionToken} from "../src/RegionToken.sol";
import {Settlement} from "../src/Settlement.sol";
import {Base} from "./Base.sol";

/// Buyers, liquidity providers, two gateways and their relays doing anything in any order. The handler keeps books of its
/// own, from what it asked for and what was given, never from the contracts' counters.
contract MoneyHandler is Base {
    uint256 internal constant KEYS = 0x1000;
    uint256 internal constant ACTORS = 3;
    uint256 public constant RELAYS = 2;

    address[2] public gateways;
    uint256 public worstGrowth; // of sqrt(k) a share since the beginning, must never fall: 1e18 = unchanged
    bool public kFell;

    // Books, by gateway.
    mapping(address => uint256) public deposited;
    mapping(address => uint256) public withdrawn;
    mapping(address => uint256) public paid;
    mapping(address => mapping(uint256 => uint256)) public spentBy;
    mapping(address => uint256[RELAYS]) public paidTo;
    mapping(address => uint256[RELAYS]) public pendingSums;
    mapping(address => uint256[RELAYS]) public finalSums;

    function init() external {
        super.setUp();
        seedPool(10_000e18, 500_000e18);
        gateways = [bondGateway(0xAAA1), bondGateway(0xAAA2)];
        for (uint256 i = 0; i < ACTORS; ++i) {
            address who = actor(i);
            bwt.transfer(who, 100_000e18);
            token.transfer(who, 100_000e18);
            vm.startPrank(who);
            bwt.approve(address(pool), type(uint256).max);
            token.approve(address(pool), type(uint256).max);
            token.approve(address(settlement), type(uint256).max);
            vm.stopPrank();
        }
        worstGrowth = _growth();
    }

    function setUp() public override {}

    function actor(uint256 i) public pure returns (address) {
        return vm.addr(KEYS + i % ACTORS);
    }

    function relay(uint256 i) public pure returns (address) {
        return address(uint160(0x5000 + i % RELAYS));
    }

    function deployed() external view returns (BandwidthToken, RegionToken, LiquidityPool, Settlement) {
        return (bwt, token, pool, settlement);
    }

    // --- the market -------------------------------------------------------------------------------------------

    function swap(uint256 who, uint256 amount, bool buy, bool exactOut) external watched {
        amount = 1 + amount % 20_000e18;
        address tokenIn = buy ? address(bwt) : address(token);
        vm.prank(actor(who));
        if (exactOut) pool.swapExactOut(tokenIn, amount, type(uint256).max, actor(who), block.timestamp);
        else pool.swapExactIn(tokenIn, amount, 0, actor(who), block.timestamp);
    }

    function add(uint256 who, uint256 maxBwt, uint256 maxToken) external watched {
        vm.prank(actor(who));
        pool.addLiquidity(maxBwt % 10_000e18, maxToken % 50_000e18, 0, actor(who), block.timestamp);
    }

    function remove(uint256 who, uint256 shares) external watched {
        uint256 held = pool.balanceOf(actor(who));
        vm.prank(actor(who));
        pool.removeLiquidity(held == 0 ? 0 : shares % (held + 1), 0, 0, actor(who), block.timestamp);
    }

    function donate(uint256 who, uint256 amount, bool inBwt) external watched {
        vm.prank(actor(who));
        if (inBwt) bwt.transfer(address(pool), amount % 100e18);
        else token.transfer(address(pool), amount % 100e18);
    }

    modifier watched() {
        _;
        uint256 growth = _growth();
        if (growth < worstGrowth) kFell = true;
        worstGrowth = growth;
    }

    /// k over the square of the shares, scaled.
    function _growth() private view returns (uint256) {
        (uint256 b, uint256 t,) = pool.reserves();
        uint256 supply = pool.totalSupply();
        return b * t / supply * 1e18 / supply;
    }

    // --- settlement -------------------------------------------------------------------------------------------

    function deposit(uint256 g, uint256 who, uint256 amount) external {
        amount = 1 + amount % 10_000e18;
        address gateway_ = gateways[g % 2];
        vm.prank(actor(who));
        settlement.deposit(gateway_, REGION, actor(who), amount);
        deposited[gateway_] += amount;
    }

    function spend(uint256 g, uint256 who, uint256 more) external {
        address gateway_ = gateways[g % 2];
        uint256 i = who % ACTORS;
        uint256 cumulative = spentBy[gateway_][i] + more % 5_000e18;
        charge(gateway_, KEYS + i, cumulative);
        spentBy[gateway_][i] = cumulative;
    }

    /// Posts sums for two relays, mostly within what vouchers released; now and then a total that is not the sum of the leaves.
    function post(uint256 g, uint256 more0, uint256 more1, uint256 lie) external {
        address gateway_ = gateways[g % 2];
        _noteFinal(gateway_);
        uint256 a = finalSums[gateway_][0];
        uint256 b = finalSums[gateway_][1];
        uint256 released = uint256(settlement.ledger(gateway_, REGION).spent) * 9 / 10;
        uint256 reach = lie % 8 == 0 ? 2_000e18 : released > a + b ? (released - a - b) / 2 : 0;
        (a, b) = (a + more0 % (reach + 1), b + more1 % (reach + 1));
        (bytes32 root,,) = twoLeaves(relay(0), a, relay(1), b);
        uint256 total = lie % 4 == 0 ? (a + b) * (lie % 3) / 2 : a + b;
        uint32 epoch = settlement.currentEpoch();
        vm.prank(gateway_);
        settlement.postRoot(REGION, epoch, root, total);
        pendingSums[gateway_] = [a, b];
    }

    function finalise(uint256 g) external {
        address gateway_ = gateways[g % 2];
        settlement.finalise(gateway_, REGION);
        finalSums[gateway_] = pendingSums[gateway_];
    }

    function claim(uint256 g, uint256 who) external {
        address gateway_ = gateways[g % 2];
        _noteFinal(gateway_);
        uint256[RELAYS] memory sums = finalSums[gateway_];
        (, bytes32[] memory pa, bytes32[] memory pb) = twoLeaves(relay(0), sums[0], relay(1), sums[1]);
        uint256 i = who % RELAYS;
        uint256 before = token.balanceOf(relay(i));
        settlement.claim(gateway_, REGION, relay(i), sums[i], i == 0 ? pa : pb);
        try settlement.claim(gateway_, REGION, relay(i), sums[i], i == 0 ? pa : pb) {} catch {}
        uint256 got = token.balanceOf(relay(i)) - before;
        paid[gateway_] += got;
        paidTo[gateway_][i] += got;
    }

    function giveNotice(uint256 g, uint256 who, uint256 amount) external {
        vm.prank(actor(who));
        settlement.requestWithdrawal(gateways[g % 2], REGION, amount % 10_000e18);
    }

    function withdraw(uint256 g, uint256 who) external {
        uint256 before = token.balanceOf(actor(who));
        vm.prank(actor(who));
        settlement.withdraw(gateways[g % 2], REGION);
        withdrawn[gateways[g % 2]] += token.balanceOf(actor(who)) - before;
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + 1 hours + time % 12 hours);
    }

    /// A pending root that the contract will make final on the next touch.
    function _noteFinal(address gateway_) private {
        Ledgers.LedgerView memory l = settlement.ledger(gateway_, REGION);
        if (l.claimableAt != 0 && block.timestamp >= l.claimableAt) finalSums[gateway_] = pendingSums[gateway_];
    }
}

contract MoneyInvariant is Base {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    MoneyHandler private handler;

    function setUp() public override {
        handler = new MoneyHandler();
        handler.init();
        (bwt, token, pool, settlement) = handler.deployed();
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory s = new bytes4[](12);
        (s[0], s[1], s[2], s[3]) =
        (
            MoneyHandler.swap.selector,
            MoneyHandler.add.selector,
            MoneyHandler.remove.selector,
            MoneyHandler.donate.selector
        );
        (s[4], s[5], s[6], s[7]) =
        (
            MoneyHandler.deposit.selector,
            MoneyHandler.spend.selector,
            MoneyHandler.post.selector,
            MoneyHandler.finalise.selector
        );
        (s[8], s[9], s[10], s[11]) =
        (
            MoneyHandler.claim.selector,
            MoneyHandler.giveNotice.selector,
            MoneyHandler.withdraw.selector,
            MoneyHandler.pass.selector
        );
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), s);
    }

    function targetContracts() public view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(handler);
    }

    /// One campaign for all of them; a failure names what broke.
    function invariant_all() public {
        k_never_falls();
        reserves_are_there();
        liquidity_can_always_leave();
        claims_never_exceed_deposits_less_burn();
        nobody_is_paid_twice();
        unspent_deposits_are_covered();
        supply_is_genesis_plus_emission_less_burn();
    }

    function k_never_falls() private view {
        yes(!handler.kFell(), "k per share fell");
    }

    function reserves_are_there() private view {
        (uint256 b, uint256 t,) = pool.reserves();
        yes(bwt.balanceOf(address(pool)) >= b, "BWT reserve");
        yes(token.balanceOf(address(pool)) >= t, "token reserve");
    }

    function liquidity_can_always_leave() private {
        for (uint256 i = 0; i < 4; ++i) {
            address who = i == 3 ? address(handler) : handler.actor(i);
            uint256 shares = pool.balanceOf(who);
            if (shares == 0) continue;
            vm.prank(who);
            pool.removeLiquidity(shares, 0, 0, who, block.timestamp);
            eq(pool.balanceOf(who), 0, "shares");
        }
    }

    /// For each gateway: what came in covers what went out and what is held; the rest was burned, at least φ of what was paid.
    function claims_never_exceed_deposits_less_burn() private view {
        uint256 burned;
        for (uint256 i = 0; i < 2; ++i) {
            address g = handler.gateways(i);
            uint256 held = token.balanceOf(token.depositsEscrow(g)) + token.balanceOf(token.earningsEscrow(g));
            uint256 out = handler.withdrawn(g) + handler.paid(g) + held;
            yes(out <= handler.deposited(g), "out of nothing");
            uint256 burnedHere = handler.deposited(g) - out;
            yes(burnedHere * 9 >= handler.paid(g), "paid without burn");
            burned += burnedHere;
        }
        eq(burned, token.usedBurned(), "burned");
    }

    /// Each account has at most what its leaf in the final root says, however often it claims.
    function nobody_is_paid_twice() private view {
        for (uint256 i = 0; i < 2; ++i) {
            address g = handler.gateways(i);
            for (uint256 k = 0; k < handler.RELAYS(); ++k) {
                yes(handler.paidTo(g, k) <= handler.finalSums(g, k), "paid above the leaf");
            }
        }
    }

    function unspent_deposits_are_covered() private view {
        for (uint256 i = 0; i < 2; ++i) {
            address g = handler.gateways(i);
            uint256 unspent;
            for (uint256 k = 0; k < 3; ++k) {
                Settlement.Deposit memory d = settlement.depositOf(g, REGION, handler.actor(k));
                unspent += d.paidIn - d.spent;
            }
            yes(token.balanceOf(token.depositsEscrow(g)) >= unspent, "unspent deposit is gone");
        }
    }

    function supply_is_genesis_plus_emission_less_burn() private view {
        eq(
            token.totalSupply() + token.usedBurned(),
            1_000_000e18 + token.trafficEmitted() + token.capacityEmitted(),
            "region supply"
        );
        eq(bwt.totalSupply(), BWT_SUPPLY, "BWT supply");
    }
}
