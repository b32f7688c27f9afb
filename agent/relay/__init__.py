"""The relaying process: gate, journal, MQTT. It has the network, the keys and the clock, and never a pixel."""
