"""A client of the orders service, written with several HTTP libraries as grown programs are.

Everything here is sound as long as its caller closes what it asked for. A line marked `planted` is
where a leak is born once a caller forgets; the tests beside this package forget, each in its own way.
"""

from orders.background import Poller, Refresher
from orders.blocking import OrdersClient, export_header, is_alive
from orders.nonblocking import AsyncOrders, wait_until
from orders.retrying import close_sessions, get_with_retries, session_for

__all__ = [
    "AsyncOrders",
    "OrdersClient",
    "Poller",
    "Refresher",
    "close_sessions",
    "export_header",
    "get_with_retries",
    "is_alive",
    "session_for",
    "wait_until",
]
