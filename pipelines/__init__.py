"""The pipeline: its steps in order, its parameters, its placement, and the command line that runs it."""
