"""The manager's side of the fleet: it speaks MQTT with devices, and runs on none of them."""
