"""What runs inside Celery: generated tasks, the knock and its publisher, the consumer, the sweep."""
