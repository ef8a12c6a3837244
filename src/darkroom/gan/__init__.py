"""The generative branch: a class-conditional DCGAN, its training and the judgement of its samples."""
