"""The operating system: files, locks, processes, the network, the machine's memory."""
