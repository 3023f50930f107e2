// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

// Compiled for deployment as it is: the owner of PoolFactory and StakeRegistry on a public chain.
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
