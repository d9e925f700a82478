"""The queue library: jobs in, jobs out.  It knows no manifest, no supervisord and no screen."""

from fleet.queue.queue import Batch, Queue, connect

__all__ = ["Batch", "Queue", "connect"]
