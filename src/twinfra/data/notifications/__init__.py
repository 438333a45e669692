"""New-data notification: storage events to the bus, and from there to whoever subscribed."""
