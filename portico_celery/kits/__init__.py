"""The application's side of the ports: what runs jobs and what creates them, independent of any vendor."""
