// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {LiquidityPool} from "../src/LiquidityPool.sol";
import {PRICE_CAP, PRICE_FLOOR, PRICE_TARGET, PRICE_UNITS, TWAP_MAX_SPAN} from "../src/Parameters.sol";
import {Base} from "./Base.sol";

/// Delivers one percent less than it is asked to.
contract TaxedToken is ERC20("Taxed", "TAX") {
    constructor() {
        _mint(msg.sender, 1e30);
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from != address(0) && to != address(0)) super._update(to, address(0), value / 100);
    }
}

/// Calls the pool again while the pool takes it.
contract ReentrantToken is ERC20("Reentrant", "RE") {
    LiquidityPool public pool;
    bool public armed;

    constructor() {
        _mint(msg.sender, 1e30);
    }

    function arm(LiquidityPool pool_) external {
        (pool, armed) = (pool_, true);
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (armed) {
            armed = false;
            _approve(address(this), address(pool), type(uint256).max);
            pool.swapExactIn(address(this), 1e18, 0, from, block.timestamp);
        }
    }
}

contract PoolTest is Base {
    // Reserves, input and output of Uniswap v2's own getInputPrice test (UniswapV2Pair.spec.ts): token0, token1, in, out.
    uint256[4][7] private _v2 = [
        [uint256(5e18), 10e18, 1e18, 1662497915624478906],
        [uint256(10e18), 5e18, 1e18, 453305446940074565],
        [uint256(5e18), 10e18, 2e18, 2851015155847869602],
        [uint256(10e18), 5e18, 2e18, 831248957812239453],
        [uint256(10e18), 10e18, 1e18, 906610893880149131],
        [uint256(100e18), 100e18, 1e18, 987158034397061298],
        [uint256(1000e18), 1000e18, 1e18, 996006981039903216]
    ];

    function test_uniswap_v2_pairs_hold_to_the_wei_and_one_more_reverts() public {
        for (uint256 i = 0; i < _v2.length; ++i) {
            uint256 state = vm.snapshotState();
            (uint256 rBwt, uint256 rToken, uint256 amountIn, uint256 out) = (_v2[i][0], _v2[i][1], _v2[i][2], _v2[i][3]);
            seedPool(rBwt, rToken);
            (uint256 quoted,) = pool.quoteExactIn(address(bwt), amountIn);
            eq(quoted, out, "quote");
            vm.expectRevert(abi.encodeWithSelector(LiquidityPool.TooLittleOut.selector, out, out + 1));
            pool.swapExactIn(address(bwt), amountIn, out + 1, address(this), block.timestamp);
            uint256 before = token.balanceOf(address(this));
            pool.swapExactIn(address(bwt), amountIn, out, address(this), block.timestamp);
            eq(token.balanceOf(address(this)) - before, out, "out");
            vm.revertToState(state);
        }
    }

    function test_exact_out_takes_the_v2_input_and_one_less_reverts() public {
        seedPool(5e18, 10e18);
        uint256 out = 1662497915624478906;
        (uint256 amountIn,) = pool.quoteExactOut(address(bwt), out);
        eq(amountIn, 1e18, "v2 getAmountIn of the getAmountOut of 1e18");
        vm.expectRevert(abi.encodeWithSelector(LiquidityPool.TooMuchIn.selector, amountIn, amountIn - 1));
        pool.swapExactOut(address(bwt), out, amountIn - 1, address(this), block.timestamp);
        uint256 before = bwt.balanceOf(address(this));
        pool.swapExactOut(address(bwt), out, amountIn, address(this), block.timestamp);
        eq(before - bwt.balanceOf(address(this)), amountIn, "in");
    }

    function test_swap_keeps_k_and_quotes_agree(uint96 bwtIn, uint96 rB, uint96 rT, bool buy) public {
        uint256 rBwt = 1e15 + rB % 1e26;
        uint256 rToken = 1e15 + rT % 1e23;
        vm.assume(rBwt * 1e18 / rToken >= PRICE_FLOOR * 2);
        uint256 amountIn = 1e9 + bwtIn % 1e23;
        seedPool(rBwt, rToken);
        address tokenIn = buy ? address(bwt) : address(token);
        (uint256 quoted,) = pool.quoteExactIn(tokenIn, amountIn);
        vm.assume(quoted != 0);
        if (!buy) {
            vm.assume((rBwt - quoted) * 1e18 / (rToken + amountIn) >= PRICE_FLOOR);
            vm.assume(amountIn <= token.balanceOf(address(this)));
        }
        uint256 out = pool.swapExactIn(tokenIn, amountIn, quoted, address(this), block.timestamp);
        eq(out, quoted, "quote");
        (uint256 b, uint256 t,) = pool.reserves();
        yes(b * t >= rBwt * rToken, "k fell");
        eq(bwt.balanceOf(address(pool)), b, "BWT reserve");
        eq(token.balanceOf(address(pool)), t, "token reserve");
    }

    function test_expired_deadline_and_zero_amounts() public {
        seedPool(10e18, 10e18);
        bytes memory expired = abi.encodeWithSelector(LiquidityPool.Expired.selector, block.timestamp - 1);
        vm.expectRevert(expired);
        pool.swapExactIn(address(bwt), 1e18, 0, address(this), block.timestamp - 1);
        vm.expectRevert(expired);
        pool.swapExactOut(address(bwt), 1e18, 9e18, address(this), block.timestamp - 1);
        vm.expectRevert(expired);
        pool.addLiquidity(1e18, 1e18, 0, address(this), block.timestamp - 1);
        vm.expectRevert(expired);
        pool.removeLiquidity(1e18, 0, 0, address(this), block.timestamp - 1);
        vm.expectRevert(LiquidityPool.ZeroAmount.selector);
        pool.swapExactIn(address(bwt), 0, 0, address(this), block.timestamp);
        vm.expectRevert(LiquidityPool.ZeroAmount.selector);
        pool.swapExactOut(address(bwt), 0, 0, address(this), block.timestamp);
        vm.expectRevert(LiquidityPool.ZeroAmount.selector);
        pool.addLiquidity(0, 1e18, 0, address(this), block.timestamp);
        vm.expectRevert(LiquidityPool.ZeroAmount.selector);
        pool.removeLiquidity(0, 0, 0, address(this), block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(LiquidityPool.UnknownToken.selector, address(this)));
        pool.swapExactIn(address(this), 1e18, 0, address(this), block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(LiquidityPool.InsufficientReserve.selector, 10e18, 10e18));
        pool.swapExactOut(address(bwt), 10e18, type(uint256).max, address(this), block.timestamp);
    }

    function test_liquidity_minimums_and_leaving() public {
        seedPool(100e18, 50e18);
        vm.expectPartialRevert(LiquidityPool.TooFewShares.selector);
        pool.addLiquidity(10e18, 5e18, type(uint256).max, address(this), block.timestamp);
        (uint256 shares, uint256 usedBwt, uint256 usedToken) =
            pool.addLiquidity(10e18, 100e18, 0, address(buyer), block.timestamp);
        eq(usedBwt, 10e18, "BWT used");
        eq(usedToken, 5e18, "token used");
        vm.startPrank(buyer);
        vm.expectPartialRevert(LiquidityPool.TooLittleOut.selector);
        pool.removeLiquidity(shares, 10e18 + 1, 0, buyer, block.timestamp);
        (uint256 outBwt, uint256 outToken) = pool.removeLiquidity(shares, 0, 0, buyer, block.timestamp);
        vm.stopPrank();
        yes(outBwt <= 10e18 && outBwt >= 10e18 - 2, "BWT back");
        yes(outToken <= 5e18 && outToken >= 5e18 - 2, "token back");
    }

    /// The classic theft: mint one share, donate until a share is worth more than the victim brings, keep the rest.
    function test_first_depositor_cannot_round_the_second_down() public {
        vm.expectPartialRevert(LiquidityPool.TooFewShares.selector);
        pool.addLiquidity(1, 1, 0, address(this), block.timestamp);
        seedPool(1001, 1001);
        bwt.transfer(address(pool), 1000e18);
        token.transfer(address(pool), 1000e18);
        (uint256 rBwt, uint256 rToken,) = pool.reserves();
        eq(rBwt, 1001, "a donation is no reserve");
        eq(rToken, 1001, "a donation is no reserve");
        bwt.transfer(buyer, 1e18);
        token.transfer(buyer, 1e18);
        vm.startPrank(buyer);
        bwt.approve(address(pool), 1e18);
        token.approve(address(pool), 1e18);
        (uint256 shares,,) = pool.addLiquidity(1e18, 1e18, 0, buyer, block.timestamp);
        (uint256 outBwt, uint256 outToken) = pool.removeLiquidity(shares, 0, 0, buyer, block.timestamp);
        vm.stopPrank();
        yes(outBwt >= 1e18 - 1 && outToken >= 1e18 - 1, "the second depositor lost");
    }

    function test_price_floor_holds_for_sales_and_first_liquidity() public {
        vm.expectPartialRevert(LiquidityPool.BelowPriceFloor.selector);
        pool.addLiquidity(0.99e18, 1000e18, 0, address(this), block.timestamp);
        seedPool(1.01e18, 1000e18);
        vm.expectPartialRevert(LiquidityPool.BelowPriceFloor.selector);
        pool.swapExactIn(address(token), 10e18, 0, address(this), block.timestamp);
        pool.swapExactIn(address(token), 1e18, 0, address(this), block.timestamp);
        yes(pool.spotPrice() >= PRICE_FLOOR, "below the floor");
    }

    function test_mean_price_weighs_by_time() public {
        seedPool(4e18, 1000e18);
        (uint48 c0, uint32 t0) = pool.cumulativePrice();
        vm.expectRevert(abi.encodeWithSelector(LiquidityPool.SpanOutOfRange.selector, 0));
        pool.meanPrice(c0, t0);
        vm.warp(START + 1000);
        eq(pool.meanPrice(c0, t0), 0.004e18, "constant price");
        pool.swapExactIn(address(bwt), 1e18, 0, address(this), block.timestamp);
        (uint48 c1, uint32 t1) = pool.cumulativePrice();
        uint256 price = pool.spotPrice() / 1e9 * 1e9;
        yes(price > 0.006e18, "price went up by a half");
        vm.warp(START + 1500);
        eq(pool.meanPrice(c1, t1), price, "the later part");
        eq(pool.meanPrice(c0, t0), (0.004e18 * 1000 + price * 500) / 1500, "both");
        vm.warp(START + 30 days + 1);
        vm.expectRevert(abi.encodeWithSelector(LiquidityPool.SpanOutOfRange.selector, 30 days + 1));
        pool.meanPrice(c0, t0);
    }

    function test_price_clock_is_capped_and_survives_its_wrap() public {
        yes(PRICE_CAP * TWAP_MAX_SPAN < 1 << 48, "span");
        eq(PRICE_CAP * 1e18 / PRICE_UNITS, 4 * PRICE_TARGET, "cap");
        seedPool(1_000_000e18, 1e18);
        for (uint256 i = 1; i <= 3; ++i) {
            (uint48 c0, uint32 t0) = pool.cumulativePrice();
            vm.warp(START + 29 days * i);
            pool.swapExactIn(address(bwt), 1e18, 0, address(this), block.timestamp);
            eq(pool.meanPrice(c0, t0), PRICE_CAP * 1e18 / PRICE_UNITS, "capped");
        }
    }

    /// A price that stood for no time weighs nothing, however far it was moved.
    function test_mean_price_ignores_what_is_undone_in_the_same_block() public {
        seedPool(4e18, 1000e18);
        (uint48 c0, uint32 t0) = pool.cumulativePrice();
        vm.warp(START + 1000);
        uint256 out = pool.swapExactIn(address(bwt), 100_000e18, 0, address(this), block.timestamp);
        pool.swapExactIn(address(token), out, 0, address(this), block.timestamp);
        eq(pool.meanPrice(c0, t0), 0.004e18, "moved within a block");
    }

    function test_price_impact_is_shown_before_buying() public {
        seedPool(1000e18, 1000e18);
        (, uint256 small) = pool.quoteExactIn(address(bwt), 1e15);
        (, uint256 large) = pool.quoteExactIn(address(bwt), 100e18);
        eq(small, 30, "the fee alone");
        eq(large, 1030, "fee and 10 % of the reserve");
    }

    function test_fee_on_transfer_token_is_refused() public {
        TaxedToken taxed = new TaxedToken();
        LiquidityPool other = LiquidityPool(make("LiquidityPool", abi.encode(bwt, taxed, "TAX")));
        taxed.approve(address(other), type(uint256).max);
        bwt.approve(address(other), type(uint256).max);
        vm.expectPartialRevert(LiquidityPool.NotReceived.selector);
        other.addLiquidity(1e18, 1e18, 0, address(this), block.timestamp);
    }

    function test_reentrant_token_is_refused() public {
        ReentrantToken re = new ReentrantToken();
        LiquidityPool other = LiquidityPool(make("LiquidityPool", abi.encode(bwt, re, "RE")));
        re.approve(address(other), type(uint256).max);
        bwt.approve(address(other), type(uint256).max);
        other.addLiquidity(100e18, 100e18, 0, address(this), block.timestamp);
        re.transfer(address(re), 10e18);
        re.arm(other);
        vm.expectRevert(abi.encodeWithSignature("ReentrancyGuardReentrantCall()"));
        other.swapExactIn(address(re), 1e18, 0, address(this), block.timestamp);
    }
}
