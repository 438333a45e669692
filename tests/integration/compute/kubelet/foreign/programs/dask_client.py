"""A client of a dask scheduler, as dask's own guide has it; ends the cluster when it is done.

``python dask_client.py ADDRESS WORKERS`` prints the sum and where the workers ran. The functions
are the standard library's: those of this file would travel as byte code, for one Python only.

Source: Dask.distributed documentation, "Quickstart".
"""

import json
import operator
import socket
import sys

from dask.distributed import Client


def main(address: str, workers: int) -> None:
    """Compute on so many workers, once they are there."""
    with Client(address, timeout=60) as client:
        client.wait_for_workers(workers, timeout=120)
        squares = client.map(operator.pow, range(10), [2] * 10)
        negatives = client.map(operator.neg, squares)
        total = client.submit(sum, negatives).result(timeout=60)
        names = [worker["name"] for worker in client.scheduler_info()["workers"].values()]
        hosts = list(client.run(socket.gethostname).values())
        client.shutdown()
    told = {"total": total, "names": sorted(names), "hosts": sorted(hosts)}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
