"""What the memory store does with its rows. It decides by portico_celery.lifecycle, and stores what that says.

Nothing here locks: the store holds its one lock around each call.
"""
