"""Chat templates, alike on all engines: what each can render is found out, and the rest is put into words it can."""
