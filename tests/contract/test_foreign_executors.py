"""The contract on executors of other packages, where these are installed: real processes, and a real cluster."""

import warnings

import pytest

from taskflowx.testing import executor_contract

pytestmark = pytest.mark.filterwarnings("ignore")  # what these packages warn of is theirs


def _loky():
    loky = pytest.importorskip("loky")
    return loky.ProcessPoolExecutor(2)


_clients = []


def _dask():
    """Return an executor on a cluster of worker processes, which is started once."""
    distributed = pytest.importorskip("distributed")
    if not _clients:
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )
        _clients.append(distributed.Client(cluster))
    return _clients[0].get_executor()


@pytest.fixture(scope="module", autouse=True)
def _cluster_is_closed():
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for client in _clients:
            client.cluster.close()
            client.close()


TestLoky = executor_contract.case(_loky)
TestDask = executor_contract.case(_dask)
