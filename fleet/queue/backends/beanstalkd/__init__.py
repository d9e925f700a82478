"""The beanstalkd back end, speaking the protocol over its own sockets."""

from fleet.queue.backends.beanstalkd.backend import BeanstalkdBackend

__all__ = ["BeanstalkdBackend"]
