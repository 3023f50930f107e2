// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {BWT_SUPPLY} from "./Parameters.sol";

/// @title BWT: the one unit of stake, price and floor in every region.
/// @notice A fixed supply, made once. Nobody can mint, pause or move another's tokens.
contract BandwidthToken is ERC20Burnable, ERC20Permit {
    constructor(address genesis) ERC20("Bandwidth Token", "BWT") ERC20Permit("Bandwidth Token") {
        _mint(genesis, BWT_SUPPLY);
    }
}
