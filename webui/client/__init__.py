"""The app's side of the workers: starts them, talks to them, sees them die. Imports no torch."""

from webui.client.worker import WorkerProcess

__all__ = ["WorkerProcess"]
