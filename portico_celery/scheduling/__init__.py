"""When jobs of schedules are due, and how they are made: without a vendor, for whoever drives it."""
