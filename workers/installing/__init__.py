"""What a machine needs beside the base install: an engine built for its hardware, or fetched from the head."""
