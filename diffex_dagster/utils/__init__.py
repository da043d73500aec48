"""What everybody uses: hashing, files written whole, imports, devices, progress, mistakes in configuration."""
