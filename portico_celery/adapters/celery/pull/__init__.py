"""Pull mode: ``dequeue`` on Celery's queues. One thread fetches a message for each caller; its claim is the answer."""
