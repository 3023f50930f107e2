"""Everything that differs by runtime or operating system. No other folder may ask which runtime it is on."""
