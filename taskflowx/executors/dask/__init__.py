"""Clusters of Dask as a place where calls run: `executor='dask'`, a `distributed.Client`, or `dask://host:port`.

`places` turns what a user passes into an executor, `executor` is the side of the engine, `fence` that of the cluster's
scheduler with a `ledger` for each run, `pump` that of its workers, and `cargo` what goes between.
"""
