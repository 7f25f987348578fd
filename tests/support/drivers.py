"""What stands behind our stores: connections of drivers, and clients of servers.

No public name leads there. Tests of what we tell a driver, and of what happens when its connection is damaged, need it.
"""


def connection_of(tx):
    """Return the driver's connection of a transaction of a SQL store."""
    return tx.raw


def client_of(backend):
    """Return the client of a ZooKeeper store."""
    return backend._client
