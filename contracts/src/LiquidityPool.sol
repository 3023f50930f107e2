// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {
    BPS,
    POOL_FEE_BPS,
    POOL_LOCKED_SHARES,
    PRICE_CAP,
    PRICE_FLOOR,
    PRICE_UNITS,
    TWAP_MAX_SPAN
} from "./Parameters.sol";

/// @title A region's market: x*y=k between BWT and the region's token, shares are an ERC-20.
/// @notice Formulas are Uniswap v2's with a fee of 0.3 %, exact to the wei. Reserves are the pool's own count, so tokens
/// sent to it by a plain transfer change no price. Selling below `PRICE_FLOOR` is refused.
contract LiquidityPool is ERC20, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    error Expired(uint256 deadline);
    error ZeroAmount();
    error UnknownToken(address token);
    error TooLittleOut(uint256 amountOut, uint256 minOut);
    error TooMuchIn(uint256 amountIn, uint256 maxIn);
    error InsufficientReserve(uint256 wanted, uint256 reserve);
    error BelowPriceFloor(uint256 price, uint256 floor);
    error TooFewShares(uint256 shares, uint256 minShares);
    error NotReceived(uint256 expected, uint256 received);
    error ReserveOverflow();
    error BadRecipient();
    error SpanOutOfRange(uint256 elapsed);

    /// After every change. What a trade moved is in the two tokens' Transfer events.
    event Reserves(uint256 bwt, uint256 region);

    /// One storage slot: a trade writes no other of the pool's own.
    struct State {
        uint88 reserveBwt;
        uint88 reserveToken;
        uint32 updatedAt; // unix seconds
        uint48 cumulative; // sum over seconds of the price in 1 / PRICE_UNITS BWT; wraps
    }

    IERC20 public immutable bwt;
    IERC20 public immutable token;

    uint256 private constant FEE_FACTOR = BPS - POOL_FEE_BPS;
    address private constant NOBODY = address(0xdead);

    State private _state;

    constructor(IERC20 bwt_, IERC20 token_, string memory symbol)
        ERC20(string.concat("bwrouter pool BWT/", symbol), string.concat("LP-", symbol))
    {
        bwt = bwt_;
        token = token_;
    }

    modifier before(uint256 deadline) {
        if (block.timestamp > deadline) revert Expired(deadline);
        _;
    }

    // --- views ------------------------------------------------------------------------------------------------

    function reserves() public view returns (uint256 reserveBwt, uint256 reserveToken, uint256 updatedAt) {
        State memory s = _state;
        return (s.reserveBwt, s.reserveToken, s.updatedAt);
    }

    /// BWT wei for 1e18 wei of the region's token, before fee; zero while the pool is empty.
    function spotPrice() public view returns (uint256) {
        State memory s = _state;
        return s.reserveToken == 0 ? 0 : uint256(s.reserveBwt) * 1e18 / s.reserveToken;
    }

    /// The cumulative price up to this block. Keep a reading and give it to `meanPrice` later.
    function cumulativePrice() public view returns (uint48 cumulative, uint32 time) {
        return (_accumulated(_state), uint32(block.timestamp));
    }

    /// Time-weighted mean price since a reading of `cumulativePrice`: BWT wei for 1e18 wei of the token, rounded down to
    /// a billionth of a BWT. A price above PRICE_CAP counts as PRICE_CAP, so a moment's peak moves a mean very little.
    function meanPrice(uint48 cumulative, uint32 time) external view returns (uint256) {
        unchecked {
            uint32 elapsed = uint32(block.timestamp) - time;
            if (elapsed == 0 || elapsed > TWAP_MAX_SPAN) revert SpanOutOfRange(elapsed);
            return uint256(uint48(_accumulated(_state) - cumulative)) * (1e18 / PRICE_UNITS) / elapsed;
        }
    }

    /// @return amountOut wei; impactBps: how far the mean price paid lies above the spot price, fee included.
    function quoteExactIn(address tokenIn, uint256 amountIn)
        public
        view
        returns (uint256 amountOut, uint256 impactBps)
    {
        (uint256 rIn, uint256 rOut) = _sides(_state, tokenIn);
        amountOut = _outFor(amountIn, rIn, rOut);
        impactBps = _impact(amountIn, amountOut, rIn, rOut);
    }

    /// @return amountIn wei; impactBps as in quoteExactIn.
    function quoteExactOut(address tokenIn, uint256 amountOut)
        public
        view
        returns (uint256 amountIn, uint256 impactBps)
    {
        (uint256 rIn, uint256 rOut) = _sides(_state, tokenIn);
        amountIn = _inFor(amountOut, rIn, rOut);
        impactBps = _impact(amountIn, amountOut, rIn, rOut);
    }

    // --- trade ------------------------------------------------------------------------------------------------

    /// Sells exactly `amountIn` of `tokenIn` (BWT or the region's token) for at least `minOut` of the other.
    function swapExactIn(address tokenIn, uint256 amountIn, uint256 minOut, address to, uint256 deadline)
        external
        nonReentrant
        before(deadline)
        returns (uint256 amountOut)
    {
        State memory s = _state;
        (uint256 rIn, uint256 rOut) = _sides(s, tokenIn);
        amountOut = _outFor(amountIn, rIn, rOut);
        if (amountOut < minOut) revert TooLittleOut(amountOut, minOut);
        _trade(s, tokenIn, amountIn, amountOut, to);
    }

    /// Buys exactly `amountOut` of the other token for at most `maxIn` of `tokenIn`.
    function swapExactOut(address tokenIn, uint256 amountOut, uint256 maxIn, address to, uint256 deadline)
        external
        nonReentrant
        before(deadline)
        returns (uint256 amountIn)
    {
        State memory s = _state;
        (uint256 rIn, uint256 rOut) = _sides(s, tokenIn);
        amountIn = _inFor(amountOut, rIn, rOut);
        if (amountIn > maxIn) revert TooMuchIn(amountIn, maxIn);
        _trade(s, tokenIn, amountIn, amountOut, to);
    }

    // --- liquidity --------------------------------------------------------------------------------------------

    /// Deposits both tokens in the pool's proportion, at most `maxBwt` and `maxToken`; the first deposit sets the price.
    /// @return shares minted to `to`; usedBwt, usedToken: what was taken
    function addLiquidity(uint256 maxBwt, uint256 maxToken, uint256 minShares, address to, uint256 deadline)
        external
        nonReentrant
        before(deadline)
        returns (uint256 shares, uint256 usedBwt, uint256 usedToken)
    {
        if (maxBwt == 0 || maxToken == 0) revert ZeroAmount();
        State memory s = _state;
        (uint256 rBwt, uint256 rToken) = (s.reserveBwt, s.reserveToken);
        uint256 supply = totalSupply();
        if (supply == 0) {
            (usedBwt, usedToken) = (maxBwt, maxToken);
            shares = Math.sqrt(maxBwt * maxToken);
            if (shares <= POOL_LOCKED_SHARES) revert TooFewShares(0, minShares);
            shares -= POOL_LOCKED_SHARES;
            _mint(NOBODY, POOL_LOCKED_SHARES);
        } else {
            // What is taken is rounded up and what is minted rounded down: a deposit never dilutes those before it.
            usedBwt = maxBwt;
            usedToken = Math.mulDiv(maxBwt, rToken, rBwt, Math.Rounding.Ceil);
            if (usedToken > maxToken) {
                usedToken = maxToken;
                usedBwt = Math.mulDiv(maxToken, rBwt, rToken, Math.Rounding.Ceil);
            }
            shares = Math.min(Math.mulDiv(usedBwt, supply, rBwt), Math.mulDiv(usedToken, supply, rToken));
        }
        if (shares == 0 || shares < minShares) revert TooFewShares(shares, minShares);
        _pull(bwt, usedBwt, rBwt);
        _pull(token, usedToken, rToken);
        _update(s, rBwt + usedBwt, rToken + usedToken);
        if (supply == 0) _requireFloor(usedBwt, usedToken);
        _mint(to, shares);
    }

    /// Burns `shares` of the caller for its part of both reserves.
    function removeLiquidity(uint256 shares, uint256 minBwt, uint256 minToken, address to, uint256 deadline)
        external
        nonReentrant
        before(deadline)
        returns (uint256 outBwt, uint256 outToken)
    {
        if (shares == 0) revert ZeroAmount();
        State memory s = _state;
        (uint256 rBwt, uint256 rToken) = (s.reserveBwt, s.reserveToken);
        uint256 supply = totalSupply();
        outBwt = Math.mulDiv(shares, rBwt, supply);
        outToken = Math.mulDiv(shares, rToken, supply);
        if (outBwt < minBwt) revert TooLittleOut(outBwt, minBwt);
        if (outToken < minToken) revert TooLittleOut(outToken, minToken);
        _burn(msg.sender, shares);
        _update(s, rBwt - outBwt, rToken - outToken);
        bwt.safeTransfer(to, outBwt);
        token.safeTransfer(to, outToken);
    }

    // --- inside -----------------------------------------------------------------------------------------------

    function _sides(State memory s, address tokenIn) private view returns (uint256 rIn, uint256 rOut) {
        if (tokenIn == address(bwt)) return (s.reserveBwt, s.reserveToken);
        if (tokenIn == address(token)) return (s.reserveToken, s.reserveBwt);
        revert UnknownToken(tokenIn);
    }

    function _outFor(uint256 amountIn, uint256 rIn, uint256 rOut) private pure returns (uint256) {
        if (amountIn == 0) revert ZeroAmount();
        uint256 charged = amountIn * FEE_FACTOR;
        return charged * rOut / (rIn * BPS + charged);
    }

    function _inFor(uint256 amountOut, uint256 rIn, uint256 rOut) private pure returns (uint256) {
        if (amountOut == 0) revert ZeroAmount();
        if (amountOut >= rOut) revert InsufficientReserve(amountOut, rOut);
        return rIn * amountOut * BPS / ((rOut - amountOut) * FEE_FACTOR) + 1;
    }

    function _impact(uint256 amountIn, uint256 amountOut, uint256 rIn, uint256 rOut) private pure returns (uint256) {
        if (amountOut == 0) return type(uint256).max;
        return Math.mulDiv(amountIn * BPS, rOut, amountOut * rIn) - BPS;
    }

    /// The state is written before tokens move; the tokens are BWT and the region's own, checked when liquidity came in.
    function _trade(State memory s, address tokenIn, uint256 amountIn, uint256 amountOut, address to) private {
        if (amountOut == 0) revert ZeroAmount();
        if (to == address(this)) revert BadRecipient();
        if (tokenIn == address(bwt)) {
            _update(s, s.reserveBwt + amountIn, s.reserveToken - amountOut);
            _move(bwt, amountIn, token, amountOut, to);
        } else {
            (uint256 rBwt, uint256 rToken) = (s.reserveBwt - amountOut, s.reserveToken + amountIn);
            _requireFloor(rBwt, rToken);
            _update(s, rBwt, rToken);
            _move(token, amountIn, bwt, amountOut, to);
        }
    }

    function _move(IERC20 paid, uint256 amountIn, IERC20 bought, uint256 amountOut, address to) private {
        if (!paid.transferFrom(msg.sender, address(this), amountIn)) revert NotReceived(amountIn, 0);
        if (!bought.transfer(to, amountOut)) revert BadRecipient();
    }

    /// Takes `amount` from the caller; a token that delivers less than it was asked for is refused.
    function _pull(IERC20 from, uint256 amount, uint256 reserve) private {
        from.safeTransferFrom(msg.sender, address(this), amount);
        uint256 held = from.balanceOf(address(this));
        if (held < reserve + amount) revert NotReceived(reserve + amount, held);
    }

    function _update(State memory s, uint256 rBwt, uint256 rToken) private {
        if (rBwt > type(uint88).max || rToken > type(uint88).max) revert ReserveOverflow();
        _state = State(uint88(rBwt), uint88(rToken), uint32(block.timestamp), _accumulated(s));
        emit Reserves(rBwt, rToken);
    }

    /// The price that stood since the last change counts for every second since then.
    function _accumulated(State memory s) private view returns (uint48) {
        unchecked {
            uint32 elapsed = uint32(block.timestamp) - s.updatedAt;
            if (elapsed == 0 || s.reserveToken == 0) return s.cumulative;
            uint256 price = uint256(s.reserveBwt) * PRICE_UNITS / s.reserveToken;
            return s.cumulative + uint48((price < PRICE_CAP ? price : PRICE_CAP) * elapsed);
        }
    }

    function _requireFloor(uint256 rBwt, uint256 rToken) private pure {
        if (rBwt * 1e18 < PRICE_FLOOR * rToken) revert BelowPriceFloor(rBwt * 1e18 / rToken, PRICE_FLOOR);
    }
}
