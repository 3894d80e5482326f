"""What connects the ports to the outside: stores, Celery, HTTP. Named only by portico_celery.compose."""
