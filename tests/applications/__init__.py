"""Applications as users have them, for the tests to serve."""
