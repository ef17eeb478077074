"""What lies on disk, written so that nothing is lost and read without trust."""
