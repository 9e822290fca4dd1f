"""One Kubeflow component a stage: a signature and one call into hqclip."""
