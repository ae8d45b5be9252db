"""Dask clusters on this computer."""

from __future__ import annotations


def local_cluster(workers: int, *, processes: bool = False):
    """Return a cluster of workers with one thread each, to be used in ``with``.

    Workers in threads of this process see what a test has replaced; those in processes can
    be killed.
    """
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=processes, protocol="tcp",
        host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50,
    )  # fmt: skip
