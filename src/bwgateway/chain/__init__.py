"""The EVM chain: the embedded node, contract calls, deployment and the journal of sent transactions."""
