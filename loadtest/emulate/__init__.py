"""A GPU that was measured, replayed as an engine on a virtual clock: what is built for it is held to it without one."""
