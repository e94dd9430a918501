"""The child process of mode processing: its main function and its access to the store."""
