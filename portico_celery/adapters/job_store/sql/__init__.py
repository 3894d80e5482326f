"""What the SQL store does, a module for each transition: compare-and-set on the row, for many jobs in one statement.

They say in SQL what portico_celery.lifecycle says in Python, as lua/ says it for Redis; the conformance suite holds
them to it. Each is given a connection, and leaves it to the store whether that is in a transaction.
"""
