"""Makes the estimator's templates: runs the real pipeline loop on the meta device."""
