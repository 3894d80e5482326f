"""Side by side with plain Celery, in one run."""
