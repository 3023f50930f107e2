"""`make bench-shaper`: what a household feels of a relay that is saturated, on lines with a dumb modem queue."""
