"""The TCP proxy's decisions: which backend, in what state it is, what it is told of the client."""
