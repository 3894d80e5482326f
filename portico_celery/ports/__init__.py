"""The interfaces that the application and the adapters meet at. Standard library only."""
