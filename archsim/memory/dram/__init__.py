"""Request streams through DRAM controllers, command by command."""
