"""What the transfer service does: takes jobs, lets files start, has them copied, settles them.

``jobs`` serves the API, ``queue`` decides who may start, ``copying`` runs one try as durable work,
``ledger`` writes down what came of it, with events and usage in the same transaction. No room here
knows SQL or HTTP: those come through ``ports`` and the store.
"""

from twinfra.data.transfers.service.copying import Copying
from twinfra.data.transfers.service.jobs import JobService
from twinfra.data.transfers.service.ledger import Ledger
from twinfra.data.transfers.service.queue import Queue

__all__ = ["Copying", "JobService", "Ledger", "Queue"]
