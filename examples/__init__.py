"""Job handlers as an application writes them, and how it wires them."""
