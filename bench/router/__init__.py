"""Instructions that a router's CPU spends on one cell: this relay beside a C loop, in QEMU. See docs/benchmarks.md."""
