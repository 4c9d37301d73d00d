"""What goes beyond plain text: tools, images and grammars, as each kind of server takes them. Pure."""
