"""What runs in every container of a job: starts the ranks of its node, and turns their end into an exit code."""
