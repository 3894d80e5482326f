"""Real faults against real processes. ``PORTICO_FAULTS=full`` runs the large sizes.

What happened is told by ledgers outside the system: the client notes each id that was accepted, the handlers each start
and each end. The verdict is made of the ledgers and the store alone. Each test prints one line of figures.
"""
