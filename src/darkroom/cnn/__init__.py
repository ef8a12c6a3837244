"""The classifier: configuration, networks, training and evaluation."""
