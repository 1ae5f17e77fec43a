"""The targets, one module for each; ``TARGET`` is what is run."""
