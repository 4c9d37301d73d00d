"""What a router adds: the same paced backends behind ours and behind other people's, one client, rounds in turns."""
