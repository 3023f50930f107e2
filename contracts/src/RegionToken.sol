// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {REGION_GENESIS_MAX} from "./Parameters.sol";

interface IEmissionSource {
    function emission() external view returns (address);
}

/// @title A region's bandwidth: 1e18 wei carry 1 GiB through one hop in that region.
/// @notice The token's own balances are the books of `Settlement`: for each gateway there are two escrow addresses that
/// have no key (hashes), one for deposits, one for earnings that a final root has settled. `Settlement` may move tokens
/// out of escrow addresses and out of no other.
contract RegionToken is ERC20Burnable, ERC20Permit {
    error NotSettlement();
    error NotEmission();
    error GenesisTooLarge(uint256 amount, uint256 most);
    error TrafficEmissionAboveBurn(uint256 emitted, uint256 burned);

    event CapacityEmitted(address indexed to, uint256 amount);
    event TrafficEmitted(address indexed to, uint256 amount);
    event UseBurned(address indexed gateway, uint256 amount);

    uint16 public immutable region;
    address public immutable settlement;
    IEmissionSource public immutable factory;

    /// Burned as the share φ of use, and emitted for traffic, since the beginning. emitted < burned, or both are zero.
    uint256 public usedBurned;
    uint256 public trafficEmitted;
    uint256 public capacityEmitted;

    constructor(
        string memory name_,
        string memory symbol_,
        uint16 region_,
        address settlement_,
        address genesisTo,
        uint256 genesisAmount
    ) ERC20(name_, symbol_) ERC20Permit(name_) {
        if (genesisAmount > REGION_GENESIS_MAX) {
            revert GenesisTooLarge(genesisAmount, REGION_GENESIS_MAX);
        }
        region = region_;
        settlement = settlement_;
        factory = IEmissionSource(msg.sender);
        if (genesisAmount != 0) _mint(genesisTo, genesisAmount);
    }

    modifier onlySettlement() {
        if (msg.sender != settlement) revert NotSettlement();
        _;
    }

    modifier onlyEmission() {
        if (msg.sender != factory.emission()) revert NotEmission();
        _;
    }

    /// The address that holds what buyers deposited with `gateway` and no final root has settled yet.
    function depositsEscrow(address gateway) public pure returns (address) {
        return _escrow("bwrouter deposits", gateway);
    }

    /// The address that holds what final roots of `gateway` have settled and nobody has claimed yet.
    function earningsEscrow(address gateway) public pure returns (address) {
        return _escrow("bwrouter earnings", gateway);
    }

    /// The low 160 bits of keccak256(abi.encode(purpose, gateway)).
    function _escrow(bytes32 purpose, address gateway) private pure returns (address escrow) {
        assembly ("memory-safe") {
            mstore(0, purpose)
            mstore(32, shr(96, shl(96, gateway)))
            escrow := shr(96, shl(96, keccak256(0, 64)))
        }
    }

    /// A root became final: `net` moves from deposits to earnings, `burn` leaves the world.
    function settle(address gateway, uint256 net, uint256 burn) external onlySettlement {
        address deposits = depositsEscrow(gateway);
        if (burn != 0) {
            _burn(deposits, burn);
            usedBurned += burn;
            emit UseBurned(gateway, burn);
        }
        _transfer(deposits, earningsEscrow(gateway), net);
    }

    /// Pays a claim. The Transfer event from the earnings escrow is the claim's event.
    function pay(address gateway, address to, uint256 amount) external onlySettlement returns (bool) {
        if (to == address(0)) revert ERC20InvalidReceiver(to);
        _update(_escrow("bwrouter earnings", gateway), to, amount);
        return true;
    }

    /// Gives unspent deposit back.
    function release(address gateway, address to, uint256 amount) external onlySettlement {
        _transfer(depositsEscrow(gateway), to, amount);
    }

    /// Mints for audited idle capacity.
    function emitCapacity(address to, uint256 amount) external onlyEmission {
        capacityEmitted += amount;
        _mint(to, amount);
        emit CapacityEmitted(to, amount);
    }

    /// Mints for carried traffic; the sum stays strictly below what use has burned, or the call reverts.
    function emitTraffic(address to, uint256 amount) external onlyEmission {
        uint256 emitted = trafficEmitted + amount;
        if (emitted >= usedBurned) revert TrafficEmissionAboveBurn(emitted, usedBurned);
        trafficEmitted = emitted;
        _mint(to, amount);
        emit TrafficEmitted(to, amount);
    }
}
