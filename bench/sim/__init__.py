"""`make sim`: what a million routers would need, computed and simulated from figures that the benchmarks measured."""
