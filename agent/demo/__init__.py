"""What `make run` needs beside the agent: a clip that anybody can have, a broker of its own, a configuration."""
