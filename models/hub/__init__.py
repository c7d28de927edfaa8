"""The Hugging Face hub: what is there, fetched so that it survives a train's tunnels.

The one room of the program that opens a socket to another machine by itself.
"""
