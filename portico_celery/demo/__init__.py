"""The demo: the webhook application, a worker and their job store in one process, with real jobs to watch."""
