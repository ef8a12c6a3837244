"""The pipeline's steps as lightweight KFP components: one folder per step.

KFP ships a component as the source of its function. Nothing outside the function's body is within its reach, so each
body imports what it needs, builds the step's configuration, calls `darkroom` and records. Components have no default
values: those stand in the configuration classes.
"""
