"""Small modules and counters that tests of all packages use."""
