"""All that is Ray's: the Serve application, its settings, the HAProxy wrapper, running it from the command line."""
