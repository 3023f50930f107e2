"""The lab: a small internet of network namespaces in which the real parts meet (docs/architecture.md, "Lab")."""
