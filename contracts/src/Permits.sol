// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

/// @title Pulling tokens with an ERC-2612 signature in the same call.
library Permits {
    error PermitRefused();

    /// Uses `signature` (r, s, v: 65 bytes) as `from`'s permit for `amount`, then takes the amount to `to`.
    /// A permit that somebody else has already submitted does no harm: what counts is the allowance. An empty
    /// signature relies on an allowance given before.
    function pull(IERC20 token, address from, address to, uint256 amount, uint256 deadline, bytes calldata signature)
        internal
    {
        if (signature.length == 65) {
            try IERC20Permit(address(token))
                .permit(
                    from,
                    address(this),
                    amount,
                    deadline,
                    uint8(signature[64]),
                    bytes32(signature[0:32]),
                    bytes32(signature[32:64])
                ) {}
            catch {
                if (token.allowance(from, address(this)) < amount) revert PermitRefused();
            }
        }
        // BWT and region tokens revert on failure; no other token comes here.
        token.transferFrom(from, to, amount);
    }
}
