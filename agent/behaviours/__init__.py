"""What Vigie recognises: one file a behaviour, each reading `Scene` and yielding episode changes."""
