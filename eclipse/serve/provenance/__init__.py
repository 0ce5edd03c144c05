"""Where a picture comes from: manifests in PNG files, signatures, C2PA credentials, the chain down to data and code."""
