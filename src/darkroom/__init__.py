"""Darkroom: develop image models on Kubeflow."""
