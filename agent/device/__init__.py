"""What the agent runs on."""
