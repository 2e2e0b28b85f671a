"""Ways out: each channel gives a message its form, sends it, and says how that ended."""
