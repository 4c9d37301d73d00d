"""Not imported: the folder is put on PYTHONPATH, so that every Python process started so has a clock that can jump."""
