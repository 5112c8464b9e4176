"""What people, pipelines and targets run."""
