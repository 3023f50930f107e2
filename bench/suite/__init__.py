"""`make bench`: every benchmark of the product in one table, and the same table for README.md."""
