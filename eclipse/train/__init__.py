"""Training of priors: losses, the resumable loop and its distribution."""
