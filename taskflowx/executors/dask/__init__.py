"""Dask clusters as executors: `executor='dask'`, a `distributed.Client`, or `dask://host:port`.

`places` turns the argument of a user into an executor, `executor` is the engine's side, `fence` that of the Dask
scheduler with a `ledger` for each run, `pump` that of its workers, and `cargo` packs the calls.
"""
