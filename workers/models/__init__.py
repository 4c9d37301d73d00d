"""Facts about model files, read from the files themselves, and the small real model that comes as a package."""
