// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {LiquidityPool} from "./LiquidityPool.sol";
import {RegionToken} from "./RegionToken.sol";

/// @title Makes a region: its token and its one pool against BWT.
/// @notice The owner (a timelock after deployment) can add regions and nothing else. `settlement` and `emission` are set
/// once each and never again.
contract PoolFactory is Ownable2Step {
    error RegionExists(uint16 region);
    error RegionZero();
    error AlreadyConnected();
    error NotConnected();
    error ZeroAddress();

    event RegionCreated(uint16 indexed region, address token, address pool, uint256 genesis);
    event SettlementConnected(address settlement);
    event EmissionConnected(address emission);

    IERC20 public immutable bwt;
    address public settlement;
    address public emission;

    mapping(uint16 region => address) public tokenOf;
    mapping(uint16 region => address) public poolOf;
    uint16[] private _regions;

    constructor(IERC20 bwt_, address owner_) Ownable(owner_) {
        bwt = bwt_;
    }

    function connectSettlement(address settlement_) external onlyOwner {
        if (settlement != address(0)) revert AlreadyConnected();
        if (settlement_ == address(0)) revert ZeroAddress();
        settlement = settlement_;
        emit SettlementConnected(settlement_);
    }

    function connectEmission(address emission_) external onlyOwner {
        if (emission != address(0)) revert AlreadyConnected();
        if (emission_ == address(0)) revert ZeroAddress();
        emission = emission_;
        emit EmissionConnected(emission_);
    }

    /// @param genesisAmount wei of the new token minted to `genesisTo` for the pool's first liquidity (bounded).
    function createRegion(
        uint16 region,
        string calldata name,
        string calldata symbol,
        address genesisTo,
        uint256 genesisAmount
    ) external onlyOwner returns (RegionToken token, LiquidityPool pool) {
        if (region == 0) revert RegionZero();
        if (tokenOf[region] != address(0)) revert RegionExists(region);
        if (settlement == address(0)) revert NotConnected();
        token = new RegionToken(name, symbol, region, settlement, genesisTo, genesisAmount);
        pool = new LiquidityPool(bwt, token, symbol);
        tokenOf[region] = address(token);
        poolOf[region] = address(pool);
        _regions.push(region);
        emit RegionCreated(region, address(token), address(pool), genesisAmount);
    }

    function regions() external view returns (uint16[] memory) {
        return _regions;
    }
}
