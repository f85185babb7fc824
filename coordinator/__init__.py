"""The coordinator: the one process that owns what a shardtls deployment shares.

It holds the session cache, the entropy service and the register of workers, and is reached only
by message (ZeroMQ, msgpack). It imports nothing of :mod:`shard`.
"""
