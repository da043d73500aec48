"""Sample images: found, decoded, prepared."""
