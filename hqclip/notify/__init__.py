"""What people are told of runs, outside Kubeflow: a message in, sent once to each place that the environment names."""
